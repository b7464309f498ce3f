//! Variables of the environment inside of text: `${NAME}`, `${NAME:-default}`, and `$$` for a dollar.

/// Looks a variable up; `None` when it is not set.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Text after substitution.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Substituted {
    pub(super) text: String,
    /// Something in it came from a variable.
    pub(super) from_variable: bool,
    /// What could not be substituted: what to look for in the file, and what is wrong.
    pub(super) mistakes: Vec<(String, String)>,
}

/// Puts the values of variables in their places.
///
/// A variable that is set to nothing is taken for a mistake like one that is not set: an empty secret or address does
/// more harm than a run that does not begin.
pub(super) fn substitute(raw: &str, environment: &Environment<'_>) -> Substituted {
    let mut out = Substituted { text: String::with_capacity(raw.len()), from_variable: false, mistakes: Vec::new() };
    let mut rest = raw;
    while let Some(dollar) = rest.find('$') {
        out.text.push_str(&rest[..dollar]);
        let behind = &rest[dollar + 1..];
        if let Some(behind) = behind.strip_prefix('$') {
            out.text.push('$');
            rest = behind;
            continue;
        }
        let Some((inside, behind)) = behind.strip_prefix('{').and_then(|behind| behind.split_once('}')) else {
            let why = if behind.starts_with('{') { "this `${` has no `}`" } else { "a lone `$` says nothing" };
            let message = format!("{why}: write ${{NAME}} for a variable and $$ for a dollar");
            out.mistakes.push((String::from("$"), message));
            rest = behind;
            continue;
        };
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        out.from_variable = true;
        match environment(name).filter(|value| !value.is_empty()) {
            _ if !is_name(name) => {
                let message = format!("`${{{inside}}}` names no variable: write ${{NAME}} or ${{NAME:-default}}");
                out.mistakes.push((format!("${{{inside}}}"), message));
            }
            Some(value) => out.text.push_str(&value),
            None => match default {
                Some(default) => out.text.push_str(default),
                None => {
                    let message = format!(
                        "the environment variable {name} is not set or empty; set it, or give a default: \
                         ${{{name}:-default}}"
                    );
                    out.mistakes.push((format!("${{{inside}}}"), message));
                }
            },
        }
        rest = behind;
    }
    out.text.push_str(rest);
    out
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(raw: &str) -> Substituted {
        substitute(raw, &|name| match name {
            "HOST" => Some(String::from("example.com")),
            "DOLLAR" => Some(String::from("${HOST}")),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_put_in_their_places() {
        for (raw, text) in [
            ("plain", "plain"),
            ("https://${HOST}/x", "https://example.com/x"),
            ("${HOST}${HOST}", "example.comexample.com"),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${NONE:-}", ""),
            ("${HOST:-d}", "example.com"),
            ("$$5 and $${HOST}", "$5 and ${HOST}"),
            // What a variable holds is not looked into.
            ("${DOLLAR}", "${HOST}"),
        ] {
            let out = of(raw);
            assert_eq!((out.text.as_str(), out.mistakes.len()), (text, 0), "{raw}");
        }
        assert!(of("${NONE:-d}").from_variable && !of("$$").from_variable);
    }

    #[test]
    fn every_mistake_is_named() {
        for (raw, words) in [
            ("${NONE}", "NONE is not set"),
            ("${EMPTY}", "EMPTY is not set or empty"),
            ("$HOST", "a lone `$`"),
            ("${HOST", "has no `}`"),
            ("${}", "names no variable"),
            ("${A B}", "names no variable"),
            ("100$", "a lone `$`"),
        ] {
            let out = of(raw);
            assert_eq!(out.mistakes.len(), 1, "{raw}: {out:?}");
            assert!(out.mistakes[0].1.contains(words), "{raw}: {out:?}");
        }
        assert_eq!(of("${NONE}${NADA}").mistakes.len(), 2);
    }
}
