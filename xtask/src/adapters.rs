//! The software adapters of this machine, found so that one test process sees them all beside any real GPU.
//!
//! Vulkan drivers announce themselves by manifest files (ICDs) in folders that the Vulkan loader searches. Mesa's
//! lavapipe is found that way; SwiftShader comes with Chromium and its manifest lies beside the browser, so it has to
//! be added by an environment variable.

use crate::process::{Error, output, which};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The manifest that Chromium ships for its software Vulkan driver.
const SWIFTSHADER_MANIFEST: &str = "vk_swiftshader_icd.json";

/// Names a manifest of SwiftShader where it lies somewhere unexpected.
pub(crate) const SWIFTSHADER_VARIABLE: &str = "LAMPYRIS_SWIFTSHADER_ICD";

/// Browsers that ship SwiftShader, by the command that starts them and by Debian package.
const BROWSERS: [&str; 6] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "brave-browser"];

/// Where distributions put those browsers when the command is a script somewhere else.
const BROWSER_FOLDERS: [&str; 7] = [
    "/usr/lib/chromium",
    "/usr/lib/chromium-browser",
    "/usr/lib64/chromium",
    "/usr/lib64/chromium-browser",
    "/opt/google/chrome",
    "/opt/microsoft/msedge",
    "/snap/chromium/current/usr/lib/chromium-browser",
];

/// The first Vulkan loader that reads `VK_ADD_DRIVER_FILES`; older ones ignore it.
const ADDS_DRIVERS: [u32; 3] = [1, 3, 207];

/// What was found on a Linux machine. Elsewhere the system's own adapters (WARP, Metal) need no help.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The Vulkan loader's version, when a loader is installed; zeros when its file name does not tell.
    pub(crate) loader: Option<[u32; 3]>,
    /// Manifests that the loader finds by itself.
    pub(crate) manifests: Vec<PathBuf>,
    /// SwiftShader's manifest.
    pub(crate) swiftshader: Option<PathBuf>,
    /// Mesa's OpenGL through EGL, which gives llvmpipe.
    pub(crate) opengl: bool,
}

impl Found {
    /// Looks around; an override that names no file is an error rather than a silent fallback.
    pub(crate) fn look() -> Result<Self, Error> {
        if !cfg!(target_os = "linux") {
            return Ok(Self::default());
        }
        let libraries = libraries();
        let manifests: Vec<PathBuf> = manifest_folders().iter().flat_map(|folder| json_files(folder)).collect();
        Ok(Self {
            loader: libraries.iter().find(|path| named(path, "libvulkan.so.1")).map(|path| loader_version(path)),
            swiftshader: swiftshader(&manifests)?,
            manifests,
            opengl: libraries.iter().any(|path| named(path, "libEGL.so.1") && mesa_opengl(path)),
        })
    }

    /// lavapipe's manifest.
    pub(crate) fn lavapipe(&self) -> Option<&Path> {
        self.manifests.iter().map(PathBuf::as_path).find(|path| file_name(path).starts_with("lvp_icd"))
    }

    /// The variables that make every adapter visible to one process, without hiding any.
    pub(crate) fn environment(&self) -> Vec<(&'static str, OsString)> {
        if chosen() {
            return Vec::new();
        }
        let already = std::env::var_os("VK_ADD_DRIVER_FILES").unwrap_or_default();
        self.addition(&std::env::split_paths(&already).collect::<Vec<_>>())
    }

    /// What `LAMPYRIS_REQUIRE` should list beside `already`: the Vulkan drivers that are here, so that one which the loader passes over fails
    /// the tests rather than missing from them. None where whoever calls has chosen the drivers.
    pub(crate) fn required(&self, already: &str) -> Option<String> {
        if chosen() || self.loader.is_none() {
            return None;
        }
        self.requirement(already)
    }

    /// The list with the drivers that were found.
    fn requirement(&self, already: &str) -> Option<String> {
        let there = [("lavapipe", self.lavapipe()), ("swiftshader", self.swiftshader.as_deref())];
        let names = there.iter().filter(|(_, manifest)| manifest.is_some()).map(|(name, _)| *name);
        let mut words: Vec<&str> = already.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        let before = words.len();
        for name in names {
            if !words.contains(&name) {
                words.push(name);
            }
        }
        (words.len() > before).then(|| words.join(","))
    }

    /// The variable that adds SwiftShader to the drivers the loader knows and to those already added.
    fn addition(&self, already: &[PathBuf]) -> Vec<(&'static str, OsString)> {
        let Some(swiftshader) = self.swiftshader.as_ref().filter(|path| !self.manifests.contains(path)) else {
            return Vec::new();
        };
        let old = self.loader.is_some_and(|version| version < ADDS_DRIVERS);
        let (name, before) =
            if old { ("VK_ICD_FILENAMES", self.manifests.as_slice()) } else { ("VK_ADD_DRIVER_FILES", already) };
        let others = before.iter().filter(|path| *path != swiftshader && !path.as_os_str().is_empty());
        std::env::join_paths(others.chain([swiftshader])).map(|value| vec![(name, value)]).unwrap_or_default()
    }

    /// The adapters in words, for a one-line summary.
    pub(crate) fn summary(&self) -> String {
        if !cfg!(target_os = "linux") {
            return "the system's own adapters".to_owned();
        }
        let vulkan = vulkan_devices(&self.environment()).unwrap_or_else(|| {
            let guessed = [self.lavapipe().map(|_| "lavapipe"), self.swiftshader.as_ref().map(|_| "SwiftShader")];
            guessed.into_iter().flatten().map(str::to_owned).collect()
        });
        let vulkan = if vulkan.is_empty() { "none".to_owned() } else { vulkan.join(", ") };
        format!("Vulkan: {vulkan}; OpenGL: {}", if self.opengl { "Mesa" } else { "none" })
    }
}

/// Prints what is here and what is missing.
pub(crate) fn report() -> Result<(), Error> {
    if cfg!(target_os = "linux") {
        let found = Found::look()?;
        let here = |path: Option<&Path>| path.map_or("missing".to_owned(), |path| path.display().to_string());
        let loader =
            found.loader.map_or("missing".to_owned(), |[major, minor, patch]| format!("{major}.{minor}.{patch}"));
        println!("Vulkan loader   {loader}");
        println!("lavapipe        {}", here(found.lavapipe()));
        println!("SwiftShader     {}", here(found.swiftshader.as_deref()));
        println!("OpenGL (EGL)    {}", if found.opengl { "Mesa" } else { "missing" });
        for (name, value) in found.environment() {
            println!("tests will see  {name}={}", value.to_string_lossy());
        }
        match vulkan_devices(&found.environment()) {
            Some(devices) if devices.is_empty() => println!("vulkaninfo      sees no device"),
            Some(devices) => devices.iter().for_each(|device| println!("vulkaninfo      {device}")),
            None => println!("vulkaninfo      not installed: the drivers above were found, not tried"),
        }
    } else if cfg!(windows) {
        println!("DX12 always has WARP, Microsoft's software adapter; real GPUs come with their drivers");
    } else {
        println!("Metal comes with macOS; no software adapter exists here");
    }
    for (tool, purpose) in [
        ("spirv-val", "checks the cross-compiled kernels"),
        ("strace", "proves that classify opens no socket"),
        ("cargo-nextest", "runs the tests; cargo test does otherwise"),
        ("cargo-deny", "checks licences and sources"),
    ] {
        let place = which(tool).map_or("missing".to_owned(), |path| path.display().to_string());
        println!("{tool:<15} {place} ({purpose})");
    }
    let missing = crate::install::missing()?;
    if !missing.is_empty() {
        println!("missing         {}", missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    }
    Ok(())
}

/// The device names that `vulkaninfo` sees under these variables; `None` where it is not installed.
fn vulkan_devices(environment: &[(&'static str, OsString)]) -> Option<Vec<String>> {
    let mut command = Command::new(which("vulkaninfo")?);
    command.arg("--summary").envs(environment.iter().map(|(name, value)| (name, value)));
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    Some(device_names(&output(&mut command).unwrap_or_default()))
}

/// The `deviceName` and `driverInfo` pairs of a `vulkaninfo --summary`.
fn device_names(text: &str) -> Vec<String> {
    let mut devices: Vec<String> = Vec::new();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match (key.trim(), value.trim(), devices.last_mut()) {
            ("deviceName", name, _) => devices.push(name.to_owned()),
            ("driverInfo", info, Some(device)) if !info.is_empty() => *device = format!("{device} [{info}]"),
            _ => {}
        }
    }
    devices
}

/// SwiftShader's manifest: the override, one the loader knows already, or the one beside a browser.
fn swiftshader(manifests: &[PathBuf]) -> Result<Option<PathBuf>, Error> {
    if let Some(path) = std::env::var_os(SWIFTSHADER_VARIABLE).map(PathBuf::from) {
        let remedy = format!("{SWIFTSHADER_VARIABLE} must name a {SWIFTSHADER_MANIFEST} that exists");
        return if path.is_file() {
            Ok(Some(path))
        } else {
            Err(Error::Missing { what: path.display().to_string(), remedy })
        };
    }
    let known = manifests.iter().filter(|path| file_name(path).contains("swiftshader")).cloned();
    let beside = browser_folders().into_iter().map(|folder| folder.join(SWIFTSHADER_MANIFEST));
    Ok(known.chain(beside.filter(|path| usable(path))).next())
}

/// Whether a manifest exists together with the library it speaks for.
fn usable(manifest: &Path) -> bool {
    manifest.is_file() && manifest.with_file_name("libvk_swiftshader.so").is_file()
}

/// The browser on the `PATH` whose WebGPU can be tried.
pub(crate) fn browser() -> Option<PathBuf> {
    BROWSERS.iter().find_map(|name| which(name))
}

/// Folders in which a browser's own files may lie, likeliest first.
fn browser_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for browser in BROWSERS {
        let real = which(browser).and_then(|path| path.canonicalize().ok());
        folders.extend(real.and_then(|path| path.parent().map(Path::to_owned)));
        let listed = output(Command::new("dpkg").args(["-L", browser])).unwrap_or_default();
        let manifest = listed.lines().map(Path::new).find(|path| file_name(path) == SWIFTSHADER_MANIFEST);
        folders.extend(manifest.and_then(Path::parent).map(Path::to_owned));
    }
    folders.extend(BROWSER_FOLDERS.iter().map(PathBuf::from));
    folders
}

/// Where the Vulkan loader looks for manifests on Linux.
fn manifest_folders() -> Vec<PathBuf> {
    let listed = |name: &str, otherwise: &str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty()).unwrap_or_else(|| otherwise.into());
        std::env::split_paths(&value).collect::<Vec<_>>()
    };
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let mut roots = listed("XDG_CONFIG_HOME", &home.join(".config").to_string_lossy());
    roots.extend(listed("XDG_CONFIG_DIRS", "/etc/xdg"));
    roots.push("/etc".into());
    roots.extend(listed("XDG_DATA_HOME", &home.join(".local/share").to_string_lossy()));
    roots.extend(listed("XDG_DATA_DIRS", "/usr/local/share:/usr/share"));
    roots.into_iter().map(|root| root.join("vulkan/icd.d")).collect()
}

/// The manifests in a folder, in a stable order; none where the folder is absent.
fn json_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it == "json")).collect();
    files.sort();
    files
}

/// The shared libraries that the system's linker knows.
fn libraries() -> Vec<PathBuf> {
    let listed = ["ldconfig", "/sbin/ldconfig"].iter().find_map(|tool| output(Command::new(tool).arg("-p")));
    let listed = listed.unwrap_or_default();
    listed.lines().filter_map(|line| line.split_once("=> ")).map(|(_, path)| PathBuf::from(path.trim())).collect()
}

/// Whether Mesa offers itself to this EGL: a vendor file for it, and a software driver behind that.
fn mesa_opengl(egl: &Path) -> bool {
    let vendors = ["/usr/share/glvnd/egl_vendor.d", "/etc/glvnd/egl_vendor.d"];
    let offered =
        vendors.iter().flat_map(|folder| json_files(Path::new(folder))).any(|path| file_name(&path).contains("mesa"));
    offered && egl.parent().is_some_and(software_opengl)
}

/// Whether Mesa's software driver for OpenGL is in a folder of libraries: a file of its own in older versions, a part of one
/// library of all drivers in newer ones. EGL comes without either.
fn software_opengl(libraries: &Path) -> bool {
    let newer = || std::fs::read_dir(libraries).into_iter().flatten().flatten();
    libraries.join("dri/swrast_dri.so").exists()
        || newer().any(|entry| file_name(&entry.path()).starts_with("libgallium-"))
}

/// A version from the end of a loader's real file name: `libvulkan.so.1.3.239`.
fn loader_version(library: &Path) -> [u32; 3] {
    let real = library.canonicalize().unwrap_or_else(|_| library.to_owned());
    version(file_name(&real).trim_start_matches("libvulkan.so."))
}

/// The first three numbers of a dotted version; what is not there is 0.
pub(crate) fn version(text: &str) -> [u32; 3] {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

/// The last part of a path as text; empty where there is none.
fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Whether a path ends in this file name.
fn named(path: &Path, name: &str) -> bool {
    file_name(path) == name
}

/// Whether whoever calls has chosen the Vulkan drivers.
fn chosen() -> bool {
    ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].iter().any(|name| std::env::var_os(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(version("1.3.239"), [1, 3, 239]);
        assert_eq!(version("1.95"), [1, 95, 0]);
        assert!(version("1.3.204") < ADDS_DRIVERS && version("1.3.239") > ADDS_DRIVERS);
        assert!(version("1.4.9") > ADDS_DRIVERS);
    }

    #[test]
    fn a_summary_gives_each_device_with_its_driver() {
        let text = "GPU0:\n\tdeviceName         = SwiftShader Device (Subzero)\n\tdriverInfo         = \n\
                    GPU1:\n\tdeviceName         = llvmpipe (LLVM 15)\n\tdriverInfo         = Mesa 22.3.6\n";
        assert_eq!(device_names(text), ["SwiftShader Device (Subzero)", "llvmpipe (LLVM 15) [Mesa 22.3.6]"]);
        assert!(device_names("").is_empty());
    }

    #[test]
    fn egl_without_a_software_driver_is_no_opengl() {
        let folder = std::env::temp_dir().join(format!("lampyris-xtask-opengl-{}", std::process::id()));
        for (driver, there) in [("libEGL.so.1", false), ("dri/swrast_dri.so", true), ("libgallium-25.0.7.so", true)] {
            let file = folder.join(driver);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            assert_eq!(software_opengl(&folder), there, "{driver}");
            std::fs::remove_dir_all(&folder).unwrap();
        }
        assert!(!software_opengl(&folder));
    }

    #[test]
    fn an_old_loader_is_given_every_driver_and_a_new_one_only_the_addition() {
        let found = |loader| Found {
            loader: Some(loader),
            manifests: vec!["/icd.d/lvp_icd.json".into()],
            swiftshader: Some("/browser/vk_swiftshader_icd.json".into()),
            opengl: false,
        };
        let joined = |paths: &[&str]| std::env::join_paths(paths).unwrap();
        let (lavapipe, swiftshader) = ("/icd.d/lvp_icd.json", "/browser/vk_swiftshader_icd.json");
        let old = found([1, 3, 204]).addition(&[]);
        assert_eq!(old, [("VK_ICD_FILENAMES", joined(&[lavapipe, swiftshader]))]);
        let new = found([1, 3, 239]).addition(&["/mine.json".into(), swiftshader.into()]);
        assert_eq!(new, [("VK_ADD_DRIVER_FILES", joined(&["/mine.json", swiftshader]))]);
    }

    #[test]
    fn drivers_that_are_here_are_required_of_the_tests() {
        let found = Found {
            manifests: vec!["/icd.d/lvp_icd.json".into()],
            swiftshader: Some("/browser/vk_swiftshader_icd.json".into()),
            ..Found::default()
        };
        assert_eq!(found.requirement("").unwrap(), "lavapipe,swiftshader");
        assert_eq!(found.requirement("adapters, swiftshader").unwrap(), "adapters,swiftshader,lavapipe");
        assert_eq!(found.requirement("lavapipe,swiftshader"), None);
        assert_eq!(Found::default().requirement("adapters"), None);
    }

    #[test]
    fn what_the_loader_finds_by_itself_is_not_added_again() {
        let swiftshader = PathBuf::from("/icd.d/vk_swiftshader_icd.json");
        let found = Found { manifests: vec![swiftshader.clone()], swiftshader: Some(swiftshader), ..Found::default() };
        assert!(found.addition(&[]).is_empty());
        assert!(Found::default().addition(&[]).is_empty());
    }
}
