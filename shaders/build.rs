//! Links the kernels: expands every shader template into its variants, validates each with naga and writes the
//! table that `lampyris_shaders::linked` includes. Nothing is assembled at run time.
//!
//! A template is WGSL with line statements (`# for`, `# if`, `# import`) and `${ expressions }`. Lines that start
//! with `//@` declare its variants:
//!
//! ```text
//! //@ axis path = portable | subgroup8(SG=8, TM=28)
//! //@ axis storage = f32 | f16
//! //@ skip path=portable, storage=f16
//! //@ only path=subgroup8, storage=f32|f16
//! //@ native path=subgroup8
//! //@ native
//! ```
//!
//! `skip` leaves out combinations that have an option of each of these axes, `only` those that have the first and none of the second; `native`
//! leaves variants out of what is built for browsers, all of the template's where it names none.
//!
//! A variant's text becomes the numbers of its lines in a table of all (`src/wgsl.rs`). For wasm32 it has neither comments nor indentation,
//! and variants with subgroup operations are left out: wgpu's web backend passes that feature on to no browser, and they are more
//! than half of all text. So are those that multiply 16-bit floats or bytes, which the browser package has no way to ask for.
//!
//! `SG` is the size of subgroups that a variant is right for, 1 where that is any. A variant that begins with `enable f16;` multiplies
//! 16-bit floats.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, UndefinedBehavior};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One option of an axis: its name and the numbers it sets.
#[derive(Clone)]
struct Choice {
    name: String,
    numbers: Vec<(String, u32)>,
}

/// Options of an axis.
type Options = (String, Vec<String>);

/// What a template's `//@` lines declare, and the text without them.
struct Template {
    axes: Vec<(String, Vec<Choice>)>,
    skips: Vec<Vec<Options>>,
    /// An option, and an axis of which a combination with it may have these options.
    only: Vec<(Options, Options)>,
    /// Left out for browsers whole.
    native: bool,
    /// Options of an axis that no browser gets.
    beyond_browsers: Vec<Options>,
    text: String,
}

fn main() {
    if let Err(error) = build() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn build() -> Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("src");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=build.rs");

    let mut templates = Vec::new();
    collect(&root, &mut templates)?;
    templates.sort();

    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .line_statement_prefix("#")
            .variable_delimiters("${", "}")
            .block_delimiters("<%", "%>")
            .comment_delimiters("<#", "#>")
            .build()?,
    );
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    for path in &templates {
        if path.parent().is_some_and(|p| p.ends_with("shared")) {
            environment.add_template_owned(stem(path), fs::read_to_string(path)?)?;
        }
    }

    let mut table = String::from("use crate::{Binding, Source, Wgsl};\n");
    let mut texts = Vec::new();
    for path in templates.iter().filter(|p| !p.parent().is_some_and(|p| p.ends_with("shared"))) {
        link(path, &environment, &out, (&mut table, &mut texts))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    // Numbered as they first come, so that after most lines of a variant comes the next number, and what is stored, how far a line is
    // from there, is mostly zeros and compresses well.
    let mut lines: Vec<&str> = Vec::new();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for (text, number) in texts.iter().zip(0..) {
        let (mut steps, mut next) = (Vec::new(), 0);
        for line in text.lines() {
            let place = *numbers.entry(line).or_insert(lines.len());
            if place == lines.len() {
                lines.push(line);
            }
            steps.push(i16::try_from(place as isize - next).map_err(|_| "more lines than 15 bits can number")?);
            next = place as isize + 1;
        }
        writeln!(table, "static TEXT_{number}: [i16; {}] = {steps:?};", steps.len())?;
    }
    fs::write(out.join("lines.txt"), lines.join("\n"))?;
    fs::write(out.join("linked.rs"), table)?;
    Ok(())
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "wgsl") {
            found.push(path);
        }
    }
    Ok(())
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Expands, validates and tabulates every variant of one template, and adds its text to `texts`.
fn link(
    path: &Path,
    environment: &Environment<'_>,
    out: &Path,
    (table, texts): (&mut String, &mut Vec<String>),
) -> Result<()> {
    let name = stem(path);
    let template = parse(&fs::read_to_string(path)?)?;
    let for_browsers = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32");
    if template.native && for_browsers {
        return Ok(());
    }
    writeln!(table, "/// Variants of `{name}`.\npub static {}: &[Source] = &[", name.to_uppercase())?;
    for variant in product(&template.axes) {
        let has = |axis: &str, options: &[String]| variant.iter().any(|(a, c)| a == axis && options.contains(&c.name));
        let one = |(axis, options): &Options| has(axis, options);
        let skipped = template.skips.iter().any(|skip| skip.iter().all(one))
            || template.only.iter().any(|(first, second)| one(first) && !one(second));
        let native = template.beyond_browsers.iter().any(one);
        let subgroup =
            variant.iter().flat_map(|(_, choice)| &choice.numbers).find(|(n, _)| n == "SG").map_or(0, |(_, v)| *v);
        let bytes = variant.iter().any(|(axis, choice)| axis == "x" && choice.name == "i8");
        if skipped || (for_browsers && (subgroup != 0 || bytes || native)) {
            continue;
        }
        let label = match variant.iter().map(|(_, c)| c.name.as_str()).collect::<Vec<_>>().join(".") {
            empty if empty.is_empty() => "portable".to_owned(),
            label => label,
        };
        let mut context: BTreeMap<String, Value> = BTreeMap::new();
        let mut numbers = Vec::new();
        for (axis, choice) in &variant {
            context.insert(axis.clone(), Value::from(choice.name.clone()));
            for (number, value) in &choice.numbers {
                context.insert(number.clone(), Value::from(*value));
                numbers.push((number.clone(), *value));
            }
        }
        let wgsl = environment
            .render_str(&template.text, Value::from(context))
            .map_err(|error| format!("variant {label}: {error:#}"))?;
        let wgsl = tidy(&wgsl, for_browsers);
        let file = out.join(format!("{name}.{label}.wgsl"));
        fs::write(&file, &wgsl)?;
        let facts = reflect(&wgsl).map_err(|error| format!("variant {label} ({}): {error}", file.display()))?;
        if facts.f16 && for_browsers {
            continue;
        }
        if facts.uses_subgroups != (subgroup != 0) {
            return Err(format!("variant {label}: subgroup operations and the number SG go together").into());
        }
        let choices: Vec<_> = variant.iter().map(|(a, c)| (a.as_str(), c.name.as_str())).collect();
        writeln!(
            table,
            "    Source {{ kernel: {name:?}, label: {label:?}, wgsl: Wgsl::linked(&TEXT_{}), choices: &{choices:?}, \
             numbers: &{numbers:?}, workgroup: {:?}, workgroup_bytes: {}, subgroup: {subgroup}, f16: {}, params_bytes: {}, \
             bindings: &[{}] }},",
            texts.len(),
            facts.workgroup,
            facts.workgroup_bytes,
            facts.f16,
            facts.params_bytes,
            facts.bindings
        )?;
        texts.push(wgsl);
    }
    table.push_str("];\n");
    Ok(())
}

/// Splits a template into its declarations and its text.
fn parse(source: &str) -> Result<Template> {
    let mut template = Template {
        axes: Vec::new(),
        skips: Vec::new(),
        only: Vec::new(),
        native: false,
        beyond_browsers: Vec::new(),
        text: String::new(),
    };
    for line in source.lines() {
        let Some(declaration) = line.strip_prefix("//@") else {
            template.text.push_str(line);
            template.text.push('\n');
            continue;
        };
        let declaration = declaration.trim();
        if let Some(axis) = declaration.strip_prefix("axis ") {
            let (name, options) = axis.split_once('=').ok_or("an axis is written `axis name = a | b`")?;
            let options = options.split('|').map(choice).collect::<Result<Vec<_>>>()?;
            template.axes.push((name.trim().to_owned(), options));
        } else if let Some(skip) = declaration.strip_prefix("skip ") {
            template.skips.push(skip.split(',').map(options).collect::<Result<Vec<_>>>()?);
        } else if let Some(only) = declaration.strip_prefix("only ") {
            let (first, second) =
                only.split_once(',').ok_or("an only is written `only axis=option, axis=option|option`")?;
            template.only.push((options(first)?, options(second)?));
        } else if declaration == "native" {
            template.native = true;
        } else if let Some(native) = declaration.strip_prefix("native ") {
            template.beyond_browsers.push(options(native)?);
        } else {
            return Err(format!("unknown declaration `//@ {declaration}`").into());
        }
    }
    Ok(template)
}

/// Reads `axis=option|option`.
fn options(text: &str) -> Result<Options> {
    let (axis, options) = text.split_once('=').ok_or("what a declaration is about is written `axis=option|option`")?;
    Ok((axis.trim().to_owned(), options.split('|').map(|option| option.trim().to_owned()).collect()))
}

/// Reads one option, `name` or `name(A=1, B=2)`.
fn choice(text: &str) -> Result<Choice> {
    let text = text.trim();
    let Some((name, rest)) = text.split_once('(') else {
        return Ok(Choice { name: text.to_owned(), numbers: Vec::new() });
    };
    let list = rest.strip_suffix(')').ok_or("an option's numbers end with `)`")?;
    let numbers = list.split(',').map(|pair| {
        let (number, value) = pair.split_once('=').ok_or("a number is written `NAME=1`")?;
        Ok((number.trim().to_owned(), value.trim().parse()?))
    });
    Ok(Choice { name: name.trim().to_owned(), numbers: numbers.collect::<Result<Vec<_>>>()? })
}

/// Every combination of one option per axis.
fn product(axes: &[(String, Vec<Choice>)]) -> Vec<Vec<(String, Choice)>> {
    axes.iter().fold(vec![Vec::new()], |combinations, (axis, options)| {
        combinations
            .iter()
            .flat_map(|head| {
                options.iter().map(move |option| {
                    let mut combination = head.clone();
                    combination.push((axis.clone(), option.clone()));
                    combination
                })
            })
            .collect()
    })
}

/// Drops the blank lines that line statements leave behind; for browsers, what only people read.
fn tidy(wgsl: &str, for_browsers: bool) -> String {
    if for_browsers {
        let lines = wgsl.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        let spaces =
            [(", ", ","), ("; ", ";"), (": ", ":"), (" = ", "="), (" + ", "+"), (" * ", "*"), (" {", "{"), ("{ ", "{")];
        return spaces.iter().fold(text, |text, (wide, narrow)| text.replace(wide, narrow));
    }
    let mut text = String::with_capacity(wgsl.len());
    let mut blank = true;
    for line in wgsl.lines().map(str::trim_end) {
        if !(line.is_empty() && blank) {
            text.push_str(line);
            text.push('\n');
        }
        blank = line.is_empty();
    }
    text
}

/// What the host needs to know of a linked shader.
struct Facts {
    workgroup: [u32; 3],
    workgroup_bytes: u32,
    params_bytes: u32,
    uses_subgroups: bool,
    f16: bool,
    bindings: String,
}

/// Validates a linked shader and reads its interface back from naga.
fn reflect(wgsl: &str) -> Result<Facts> {
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|error| error.emit_to_string(wgsl))?;
    // Packing two halves in a word is core WGSL; naga keeps a capability for old OpenGL.
    let base = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let valid = |allowed: Capabilities| -> std::result::Result<(), String> {
        let judged = Validator::new(ValidationFlags::all(), allowed).validate(&module);
        judged.map(|_| ()).map_err(|error| error.emit_to_string(wgsl))
    };
    // Most need nothing more, and are judged once.
    let (mut f16, mut uses_subgroups) = (false, false);
    if valid(base).is_err() {
        f16 = valid(base | Capabilities::SUBGROUP).is_err();
        let base = if f16 { base | Capabilities::SHADER_FLOAT16 } else { base };
        uses_subgroups = valid(base).is_err();
        valid(base | Capabilities::SUBGROUP)?;
    }
    let entry = match &module.entry_points[..] {
        [entry] if entry.name == "main" => entry,
        _ => return Err("a kernel has one entry point, `main`".into()),
    };
    let mut bindings: BTreeMap<u32, &str> = BTreeMap::new();
    let (mut workgroup_bytes, mut params_bytes) = (0, 0);
    for (_, global) in module.global_variables.iter() {
        let inner = &module.types[global.ty].inner;
        if global.space == naga::AddressSpace::WorkGroup {
            workgroup_bytes += inner.size(module.to_ctx());
        }
        let Some(binding) = &global.binding else {
            continue;
        };
        if binding.group != 0 {
            return Err("bindings belong to group 0".into());
        }
        let kind = match global.space {
            naga::AddressSpace::Uniform => {
                params_bytes = inner.size(module.to_ctx());
                "Binding::Params"
            }
            naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => "Binding::Write",
            naga::AddressSpace::Storage { .. } => "Binding::Read",
            naga::AddressSpace::Handle => "Binding::Texture",
            other => return Err(format!("unexpected address space {other:?}").into()),
        };
        bindings.insert(binding.binding, kind);
    }
    if bindings.first_key_value() != Some((&0, &"Binding::Params"))
        || bindings.keys().copied().ne(0..bindings.len() as u32)
    {
        return Err("binding 0 holds the parameters and the others follow without a gap".into());
    }
    Ok(Facts {
        workgroup: entry.workgroup_size,
        workgroup_bytes,
        params_bytes,
        uses_subgroups,
        f16,
        bindings: bindings.values().copied().collect::<Vec<_>>().join(", "),
    })
}
