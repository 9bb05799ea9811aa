//! Every linked shader, judged without a device: it validates, it translates to what Vulkan, Metal, Direct3D and OpenGL
//! compile, and what the host says of it (parameters, limits, twin, cases) is so.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use lampyris_shaders::{Call, Caps, Case, Source, Tier, all};
use naga::back::{glsl, hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A language that a driver takes, at the oldest version that the engine meets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    /// SPIR-V 1.3, of Vulkan 1.1.
    SpirV,
    /// Metal Shading Language 2.1.
    Metal,
    /// HLSL of shader model 5.1, for the compiler that is part of Windows.
    Hlsl51,
    /// HLSL of shader model 6.0, for the newer compiler.
    Hlsl60,
    /// GLSL ES 3.10.
    GlslEs,
    /// GLSL 4.30.
    Glsl,
}

const BACKENDS: [Backend; 6] =
    [Backend::SpirV, Backend::Metal, Backend::Hlsl51, Backend::Hlsl60, Backend::GlslEs, Backend::Glsl];

/// What a backend cannot express, which shaders that concerns, and why. A shader listed here that can be expressed after all
/// fails the test too, so the list is never longer than the truth.
type Exception = (Backend, fn(&Source) -> bool, &'static str);

const EXCEPTIONS: &[Exception] = &[
    (Backend::Hlsl51, |source| source.f16, "16-bit floats came with shader model 6.2"),
    (Backend::GlslEs, |source| source.f16, "16-bit floats are an extension that few OpenGL ES drivers have"),
    (Backend::Glsl, |source| source.f16, "16-bit floats are an extension that few OpenGL drivers have"),
    (Backend::Hlsl51, |source| source.subgroup != 0, "wave intrinsics came with shader model 6.0"),
    (Backend::GlslEs, |source| source.subgroup != 0, "subgroups are an extension that few OpenGL ES drivers have"),
    (Backend::Glsl, |source| source.subgroup != 0, "subgroups are an extension that few OpenGL drivers have"),
];

/// Extensions that naga asks for although GLSL 4.30 has them built in.
const PART_OF_GLSL: [&str; 2] = ["GL_ARB_compute_shader", "GL_ARB_shader_storage_buffer_object"];

/// What a translated text uses that the plain language of that version lacks: naga writes it all the same and leaves it to
/// the caller to know.
fn beyond(backend: Backend, text: &str) -> Option<&str> {
    let mut lines = text.lines();
    match backend {
        Backend::Hlsl51 => lines.find(|line| line.contains("Wave") || line.contains("half4")),
        Backend::GlslEs | Backend::Glsl => lines.find(|line| {
            line.starts_with("#extension") && !PART_OF_GLSL.iter().any(|extension| line.contains(extension))
        }),
        _ => None,
    }
}

fn exception(backend: Backend, source: &Source) -> Option<&'static str> {
    EXCEPTIONS.iter().find(|(b, concerns, _)| *b == backend && concerns(source)).map(|(_, _, reason)| *reason)
}

fn sources() -> impl Iterator<Item = &'static Source> {
    all().into_iter().flat_map(|entry| entry.sources)
}

fn id(source: &Source) -> String {
    format!("{}.{}", source.kernel, source.label)
}

/// Parses and validates with no more than the shader says it needs.
fn validated(source: &Source) -> (Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(&source.wgsl.text()).unwrap_or_else(|e| panic!("{}: {e}", id(source)));
    let mut allowed = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    if source.subgroup != 0 {
        allowed |= Capabilities::SUBGROUP;
    }
    if source.f16 {
        allowed |= Capabilities::SHADER_FLOAT16;
    }
    let mut validator = Validator::new(ValidationFlags::all(), allowed);
    let info = validator
        .validate(&module)
        .unwrap_or_else(|e| panic!("{}: {}", id(source), e.emit_to_string(&source.wgsl.text())));
    (module, info)
}

fn spirv(module: &Module, info: &ModuleInfo) -> Result<Vec<u32>, String> {
    let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".into() };
    spv::write_vec(module, info, &options, Some(&pipeline)).map_err(|error| error.to_string())
}

fn metal(module: &Module, info: &ModuleInfo) -> Result<String, String> {
    let options = msl::Options { lang_version: (2, 1), ..msl::Options::default() };
    let entry_point = Some((ShaderStage::Compute, "main".to_owned()));
    let pipeline = msl::PipelineOptions { entry_point, ..msl::PipelineOptions::default() };
    let (text, facts) = msl::write_string(module, info, &options, &pipeline).map_err(|error| error.to_string())?;
    match &facts.entry_point_names[..] {
        [Ok(_)] => Ok(text),
        other => Err(format!("{other:?}")),
    }
}

fn direct3d(module: &Module, info: &ModuleInfo, shader_model: hlsl::ShaderModel) -> Result<String, String> {
    let options = hlsl::Options { shader_model, ..hlsl::Options::default() };
    let pipeline = hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, "main".to_owned())) };
    let mut text = String::new();
    let mut writer = hlsl::Writer::new(&mut text, &options, &pipeline);
    writer.write(module, info, None).map_err(|error| error.to_string())?;
    Ok(text)
}

fn opengl(module: &Module, info: &ModuleInfo, version: glsl::Version) -> Result<String, String> {
    let options = glsl::Options { version, ..glsl::Options::default() };
    let (shader_stage, entry_point) = (ShaderStage::Compute, "main".to_owned());
    let pipeline = glsl::PipelineOptions { shader_stage, entry_point, multiview: None };
    let mut text = String::new();
    let policies = naga::proc::BoundsCheckPolicies::default();
    let writer = glsl::Writer::new(&mut text, module, info, &options, &pipeline, policies);
    writer.and_then(|mut writer| writer.write()).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Translates, and gives the length of the translation.
fn translate(backend: Backend, module: &Module, info: &ModuleInfo) -> Result<usize, String> {
    let text = match backend {
        Backend::SpirV => return spirv(module, info).map(|words| words.len()),
        Backend::Metal => metal(module, info),
        Backend::Hlsl51 => direct3d(module, info, hlsl::ShaderModel::V5_1),
        Backend::Hlsl60 => direct3d(module, info, hlsl::ShaderModel::V6_0),
        Backend::GlslEs => opengl(module, info, glsl::Version::new_gles(310)),
        Backend::Glsl => opengl(module, info, glsl::Version::Desktop(430)),
    }?;
    match beyond(backend, &text) {
        Some(line) => Err(format!("not in this version: {line}")),
        None => Ok(text.len()),
    }
}

#[test]
fn every_shader_translates_to_every_language_that_can_express_it() {
    let (mut translated, mut wrong) = (0, Vec::new());
    for source in sources() {
        let (module, info) = validated(source);
        for backend in BACKENDS {
            match (translate(backend, &module, &info), exception(backend, source)) {
                (Ok(length), None) => {
                    assert!(length > 0, "{} to {backend:?} is empty", id(source));
                    translated += 1;
                }
                (Err(_), Some(_)) => {}
                (Err(error), None) => wrong.push(format!("{} to {backend:?}: {error}", id(source))),
                (Ok(_), Some(reason)) => {
                    wrong.push(format!("{} to {backend:?} works, but is listed as: {reason}", id(source)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of the translations:\n{}", wrong.len(), wrong.join("\n"));
    let shaders = sources().count();
    assert!(shaders > 100 && translated >= 3 * shaders, "only {translated} translations of {shaders} shaders");
    for (backend, concerns, reason) in EXCEPTIONS {
        assert!(sources().any(concerns), "nothing meets the exception for {backend:?}: {reason}");
    }
}

/// Khronos' own validator judges the words that naga writes.
#[test]
fn the_spirv_validator_accepts_every_shader() {
    let installed = Command::new("spirv-val").arg("--version").output().is_ok_and(|output| output.status.success());
    if !installed {
        eprintln!("SKIPPED: spirv-val is not installed (Debian: apt-get install spirv-tools)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = sources()
        .map(|source| {
            let (module, info) = validated(source);
            let words = spirv(&module, &info).unwrap_or_else(|error| panic!("{}: {error}", id(source)));
            let file = folder.path().join(format!("{}.spv", id(source)));
            std::fs::write(&file, words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
            file
        })
        .collect();
    assert!(files.len() > 100, "only {} shaders", files.len());
    // It takes one file a call.
    let script =
        r#"bad=0; for f in "$@"; do spirv-val --target-env vulkan1.1 "$f" || { echo "$f"; bad=1; }; done; exit $bad"#;
    let output = Command::new("sh").args(["-c", script, "sh"]).args(&files).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// The adapters whose choice of variants differs: WebGPU's defaults, and programs on the CPU with and without subgroups.
fn adapters() -> Vec<Caps> {
    let plain = Caps::WEBGPU_DEFAULT;
    let software = Caps { software: true, ..plain.clone() };
    let with = |lanes, caps: &Caps| Caps { subgroup: Some((lanes, lanes)), ..caps.clone() };
    let half = Caps { f16: true, ..with(32, &plain) };
    vec![half, with(32, &plain), with(8, &software), with(4, &software), software, plain]
}

fn every_case(mut check: impl FnMut(&str, &Case, &Call<'_>)) {
    for entry in all() {
        for case in (entry.cases)() {
            let inputs = case.descs();
            let outputs = case.outputs().unwrap_or_else(|error| panic!("{} {}: {error}", entry.name, case.label));
            check(entry.name, &case, &Call { inputs: &inputs, outputs: &outputs });
        }
    }
}

#[test]
fn every_launch_fits_its_shader() {
    let mut launches = 0;
    every_case(|kernel, case, call| {
        for caps in adapters() {
            for source in case.kernel.candidates(call, &caps) {
                let at = format!("{kernel} {} {}", case.label, source.label);
                assert_eq!(source.kernel, kernel, "{at}");
                assert!(source.fits(&caps), "{at} is chosen where it cannot run");
                let launch = case.kernel.launch(call, source);
                assert_eq!(launch.params.len() * 4, source.params_bytes as usize, "{at}: bytes of parameters");
                assert_eq!(launch.operands.len() + 1, source.bindings.len(), "{at}: bindings");
                assert!(
                    launch.grid.iter().all(|groups| (1..=caps.max_groups).contains(groups)),
                    "{at}: {:?}",
                    launch.grid
                );
                launches += 1;
            }
        }
    });
    assert!(launches > 1000, "only {launches} launches");
}

/// What leaves the first workgroup out is right in a whole launch, and in the first piece of one that is cut.
#[test]
fn whatever_can_be_cut_counts_every_workgroup_from_the_first() {
    for entry in all() {
        for (axis, letter) in ["x", "y"].into_iter().enumerate() {
            if (entry.cases)().iter().all(|case| case.kernel.first_group()[axis].is_none()) {
                continue;
            }
            let counters = ["group", "workgroup", "id"].map(|counter| format!("{counter}.{letter}"));
            for source in entry.sources {
                let text = source.wgsl.text();
                let counts = |line: &&str| {
                    line.split(|it: char| !it.is_alphanumeric() && !"_.".contains(it))
                        .any(|word| counters.iter().any(|counter| counter == word))
                };
                let lines: Vec<&str> = text.lines().filter(counts).collect();
                assert!(!lines.is_empty(), "{}[{}] has no workgroups in {letter}", entry.name, source.label);
                for line in lines {
                    let adds = match axis {
                        0 => line.replace("params.first_row", "").contains("params.first"),
                        _ => line.contains("params.first_row"),
                    };
                    assert!(adds, "{}[{}]: {line}", entry.name, source.label);
                }
            }
        }
    }
}

#[test]
fn every_case_runs_on_webgpus_default_limits() {
    let mut cases = 0;
    every_case(|kernel, case, call| {
        let portable = case.kernel.candidates(call, &Caps::WEBGPU_DEFAULT);
        assert!(!portable.is_empty(), "{kernel} {} has no variant for WebGPU's defaults", case.label);
        for caps in adapters() {
            let found = case.kernel.candidates(call, &caps);
            assert!(!found.is_empty(), "{kernel} {} has no variant for {caps:?}", case.label);
        }
        cases += 1;
    });
    assert!(cases > 500, "only {cases} cases");
}

#[test]
fn every_shader_is_the_choice_of_some_case() {
    let mut chosen = BTreeSet::new();
    every_case(|_, case, call| {
        for caps in adapters() {
            chosen.extend(case.kernel.candidates(call, &caps).into_iter().map(id));
        }
    });
    let unused: Vec<String> = sources().map(id).filter(|id| !chosen.contains(id)).collect();
    assert!(unused.is_empty(), "linked, and no case ever chooses them: {unused:?}");
}

#[test]
fn every_kernel_has_short_cases_with_names_of_their_own() {
    for entry in all() {
        let cases = (entry.cases)();
        assert!(cases.iter().any(|case| case.tier == Tier::Short), "{} has no short case", entry.name);
        let mut labels = BTreeSet::new();
        for case in &cases {
            assert_eq!(case.kernel.name(), entry.name, "{}", case.label);
            assert_eq!(case.kernel.sources(), entry.sources, "{}", case.label);
            assert!(labels.insert(case.label.clone()), "{} has two cases {}", entry.name, case.label);
        }
    }
}

#[test]
fn every_shader_file_has_a_twin_and_a_place_in_the_list() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut templates, mut folders) = (BTreeSet::new(), vec![root]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("shared") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "wgsl") {
                assert!(path.with_extension("rs").is_file(), "{} has no twin", path.display());
                templates.insert(path.file_stem().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let listed: BTreeSet<String> = all().iter().map(|entry| entry.name.to_owned()).collect();
    assert!(templates.len() > 10, "only {templates:?}");
    assert_eq!(templates, listed);
}
