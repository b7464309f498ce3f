//! Which tags say what a scan found: one of the known sets, or names of one's own.

use super::read::Item;
use crate::handler::{Fact, Vocabulary};

/// A vocabulary, still without what the policy says about unproven contents.
#[derive(Debug, Clone, Default)]
pub(super) struct VocabularySpec(Vocabulary);

const FACTS: [(&str, Fact); 9] = [
    ("status", Fact::Status),
    ("threat", Fact::Threat),
    ("threat_or_ok", Fact::ThreatOrOk),
    ("reason", Fact::Reason),
    ("findings", Fact::Findings),
    ("detectors", Fact::Detectors),
    ("definitions", Fact::Definitions),
    ("sha256", Fact::Sha256),
    ("task", Fact::Task),
];

impl VocabularySpec {
    /// The vocabulary for a policy.
    pub(super) fn build(&self, accept_unproven: bool) -> Vocabulary {
        self.0.clone().accept_unproven(accept_unproven)
    }

    pub(super) fn describe(&self) -> String {
        self.0.names().collect::<Vec<_>>().join(", ")
    }
}

/// A known set by its name, or a table of facts and the names of their tags, the most important first.
pub(super) fn vocabulary(item: &Item<'_>) -> Option<VocabularySpec> {
    if !item.is_table() {
        let known = [
            ("default", Vocabulary::default()),
            ("av-status", Vocabulary::av_status()),
            ("scan-status", Vocabulary::scan_status()),
            ("clamav-status", Vocabulary::clamav_status()),
            ("guardduty", Vocabulary::guard_duty()),
        ];
        return item.choice(&known).map(VocabularySpec);
    }
    let section = item.section()?;
    section.read(|table| {
        let words = table.section("words").map(|words| {
            words.read(|words| {
                let word = |name, default: &str| words.text(name).map_or(default.to_owned(), |word| word.value);
                (word("clean", "clean"), word("infected", "infected"), word("unscannable", "unscannable"))
            })
        });
        let mut names: Vec<_> = FACTS.iter().filter_map(|(fact, what)| Some((table.text(fact)?, *what))).collect();
        // From most to least important, as they stand in the file.
        names.sort_by_key(|(name, _)| name.at);
        let mut names = names.into_iter();
        let Some((first, fact)) = names.next() else {
            table.mistake("names no tag: write status = \"the tag's name\"");
            return None;
        };
        let start = Vocabulary::new(first.value, fact);
        let all = names.fold(start, |all, (name, fact)| all.and(name.value, fact));
        Some(VocabularySpec(match words {
            Some((clean, infected, unscannable)) => all.words(clean, infected, unscannable),
            None => all,
        }))
    })
}
