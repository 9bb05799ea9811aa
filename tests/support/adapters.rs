//! Which adapters must be there: `LAMPYRIS_REQUIRE` names them, so that one that was not installed, or that a loader has passed over, fails.

/// Each adapter that can be asked for, by the word for it, its backend and what its name contains.
const NAMED: [(&str, &str, &str); 3] =
    [("lavapipe", "vulkan", "llvmpipe"), ("opengl", "gl", ""), ("swiftshader", "vulkan", "SwiftShader")];

/// What else the word may be, of which others take care.
const OTHERS: [&str; 3] = ["material", "browser", "python"];

/// The words of a list that ask for an adapter which is not among those `found`, by name and backend, and those that mean nothing.
pub(crate) fn missing<'a>(list: &'a str, found: &[(String, String)]) -> Vec<&'a str> {
    let there = |word: &str| {
        let named = NAMED.iter().find(|(name, ..)| *name == word);
        match named {
            Some((_, backend, part)) => found.iter().any(|(name, on)| on == backend && name.contains(part)),
            None if word == "adapters" => !found.is_empty(),
            None => OTHERS.contains(&word),
        }
    };
    list.split(',').map(str::trim).filter(|word| !word.is_empty() && !there(word)).collect()
}

/// Fails where one that is required is missing of those `found`, by name and backend, and says so where there is none at all.
pub(crate) fn demand(found: impl Iterator<Item = (String, String)>) {
    let found: Vec<_> = found.collect();
    let list = std::env::var("LAMPYRIS_REQUIRE").unwrap_or_default();
    let missing = missing(&list, &found);
    assert!(missing.is_empty(), "LAMPYRIS_REQUIRE asks for {}, and there is only {found:?}", missing.join(", "));
    if found.is_empty() {
        eprintln!("SKIPPED: no adapter; `cargo xtask test` installs software adapters");
    }
}
