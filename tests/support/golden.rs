//! Plans held still as text, in files that a change which means to leave them alone leaves alone.

use lampyris::engine::Plan;
use std::path::Path;

/// Compares each plan with `tests/golden/NAME.plan.txt`, or writes those files where `UPDATE_GOLDEN` is 1.
pub fn check<'a>(plans: impl IntoIterator<Item = (&'a str, &'a Plan)>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1");
    let mut changed = Vec::new();
    for (name, plan) in plans {
        let path = folder.join(format!("{name}.plan.txt"));
        let (found, recorded) = (plan.to_string(), std::fs::read_to_string(&path).unwrap_or_default());
        if update {
            std::fs::write(&path, &found).unwrap();
        } else if found != recorded {
            let differs = found.lines().zip(recorded.lines()).find(|(a, b)| a != b);
            let (now, then) = differs.unwrap_or(("as many lines as it has", "another number of lines"));
            changed.push(format!("{name}\n  was {then}\n  is  {now}"));
        }
    }
    assert!(changed.is_empty(), "UPDATE_GOLDEN=1 records these anew, if they are meant:\n{}", changed.join("\n"));
}
