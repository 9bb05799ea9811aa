//! How often a classifier is right on pictures that lie in folders named by what they show.

use super::percent;
use crate::failure::Failure;
use crate::{output, pictures};
use lampyris::{Classifier, Input};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

/// Pictures in one run.
const BATCH: usize = 8;
/// Labels that a sentence about a folder lists.
const LISTED: usize = 40;

/// What was right.
#[derive(Debug, Serialize)]
pub(super) struct Score {
    folder: String,
    accuracy: f64,
    right: usize,
    count: usize,
    classes: Vec<Class>,
}

/// The pictures of one folder.
#[derive(Debug, Serialize)]
struct Class {
    label: String,
    accuracy: f64,
    right: usize,
    count: usize,
    /// What the others were taken for, most frequent first.
    taken_for: Vec<Mistake>,
}

#[derive(Debug, Serialize)]
struct Mistake {
    label: String,
    count: usize,
}

/// Classifies every picture of every folder in `folder`.
pub(super) fn score(classifier: &Classifier, folder: &Path) -> Result<Score, Failure> {
    let labels = labels(classifier);
    let classes = folders(folder, &labels)?;
    let mut files = Vec::new();
    let mut of = Vec::new();
    for (at, (_, path)) in classes.iter().enumerate() {
        let pictures = pictures::files(std::slice::from_ref(path))?;
        of.extend(std::iter::repeat_n(at, pictures.len()));
        files.extend(pictures);
    }
    let guessed = guess_all(classifier, &files)?;
    let mut found: Vec<BTreeMap<&str, usize>> = vec![BTreeMap::new(); classes.len()];
    for (class, label) in of.iter().zip(&guessed) {
        *found[*class].entry(label.as_str()).or_default() += 1;
    }
    let classes: Vec<Class> = classes.iter().zip(&found).map(|((label, _), found)| class(label, found)).collect();
    let [right, count] = [classes.iter().map(|it| it.right).sum(), classes.iter().map(|it| it.count).sum()];
    let folder = folder.display().to_string();
    Ok(Score { folder, accuracy: percent(right, count) / 100.0, right, count, classes })
}

fn class(label: &str, found: &BTreeMap<&str, usize>) -> Class {
    let (right, count) = (found.get(label).copied().unwrap_or(0), found.values().sum());
    let others = found.iter().filter(|(guess, _)| **guess != label);
    let mut taken_for: Vec<Mistake> =
        others.map(|(guess, count)| Mistake { label: (*guess).to_owned(), count: *count }).collect();
    taken_for.sort_by_key(|mistake| std::cmp::Reverse(mistake.count));
    Class { label: label.to_owned(), accuracy: percent(right, count) / 100.0, right, count, taken_for }
}

/// What the classifier can say.
fn labels(classifier: &Classifier) -> Vec<String> {
    let labels = &classifier.network().settings().labels;
    (0..labels.classes()).filter_map(|class| labels.get(class).map(str::to_owned)).collect()
}

/// The folders in `folder`, each named by one of `labels`.
fn folders(folder: &Path, labels: &[String]) -> Result<Vec<(String, PathBuf)>, Failure> {
    let unreadable = |source| Failure::Unreadable { path: folder.display().to_string(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let at = labels.iter().position(|label| *label == name).ok_or_else(|| {
            let mut known = labels.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
            if labels.len() > LISTED {
                known += " and more";
            }
            Failure::UnknownLabel { folder: path.display().to_string(), known }
        })?;
        found.push((at, name, path));
    }
    if found.is_empty() {
        return Err(Failure::NoLabels { folder: folder.display().to_string() });
    }
    found.sort_by_key(|(at, ..)| *at);
    Ok(found.into_iter().map(|(_, name, path)| (name, path)).collect())
}

/// The likeliest label of each picture; the next ones are decoded while the device works.
fn guess_all(classifier: &Classifier, files: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let progress = output::progress(files.len(), "classifying");
    let guessed = std::thread::scope(|scope| {
        let (sender, decoded) = sync_channel(0);
        scope.spawn(move || pictures::decode_all(files, BATCH, &sender));
        let mut guessed = Vec::with_capacity(files.len());
        for group in decoded {
            let group = group?;
            let inputs: Vec<Input<'_>> = group.iter().map(Input::from).collect();
            let names = &files[guessed.len()..(guessed.len() + group.len()).min(files.len())];
            let answers = pictures::classify(classifier, &inputs, names)?;
            guessed.extend(
                answers
                    .iter()
                    .map(|answer| answer.top(1).into_iter().next().map(|first| first.label).unwrap_or_default()),
            );
            progress.inc(group.len() as u64);
        }
        Ok(guessed)
    });
    progress.finish_and_clear();
    guessed
}

impl Score {
    /// For people.
    pub(super) fn shown(&self) -> String {
        let (right, count) = (self.right, self.count);
        let folder = output::one_line(&self.folder);
        let mut text = format!("{:.2} % of {count} pictures in {folder} are right ({right})\n", percent(right, count));
        for class in &self.classes {
            let label = output::one_line(&class.label);
            let taken =
                class.taken_for.iter().take(3).map(|it| format!("{} {}", output::one_line(&it.label), it.count));
            let taken = taken.collect::<Vec<_>>().join(", ");
            let taken = if taken.is_empty() { taken } else { format!("   taken for: {taken}") };
            text += &format!("  {label:12} {:6.2} % of {}{taken}\n", percent(class.right, class.count), class.count);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_listed_by_how_many_they_are() {
        let found = BTreeMap::from([("a", 7), ("b", 1), ("c", 2)]);
        let it = class("a", &found);
        assert_eq!((it.right, it.count, it.accuracy), (7, 10, 0.7));
        let taken: Vec<_> = it.taken_for.iter().map(|it| (it.label.as_str(), it.count)).collect();
        assert_eq!(taken, [("c", 2), ("b", 1)]);
        let none = class("d", &found);
        assert_eq!((none.right, none.count), (0, 10));
    }
}
