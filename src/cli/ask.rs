//! Asking a person before something is changed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;

use super::{output, settings};

/// Whether a person is asked.
#[derive(Debug, Args)]
pub(super) struct Ask {
    /// Do it without asking
    #[arg(short, long)]
    yes: bool,
}

impl Ask {
    /// Before anything is looked at: whether there will be an answer.
    ///
    /// # Errors
    /// Nobody can be asked: wrong usage.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self.yes || io::stdin().is_terminal() {
            true => Ok(()),
            false => Err(settings::unusable(
                "this asks before it changes anything, and there is no terminal to ask on (nothing changed); add --yes",
            )),
        }
    }

    /// Whether it was answered on the command line.
    pub(super) fn is_answered(&self) -> bool {
        self.yes
    }

    /// Prints what will happen, and asks. Where the answer is no, it says so.
    pub(super) fn confirm(&self, effect: &[String]) -> anyhow::Result<bool> {
        output::print(format_args!("{}", list(effect)));
        if self.yes {
            return Ok(true);
        }
        eprint!("Go on? [y/N] ");
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        let goes_on = is_yes(&answer);
        if !goes_on {
            output::say!("nothing changed");
        }
        Ok(goes_on)
    }
}

/// Sentences as a list.
fn list(sentences: &[String]) -> String {
    sentences.iter().map(|sentence| format!("- {sentence}\n")).collect()
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        for answer in ["y\n", "yes\n", " Yes \n", "Y"] {
            assert!(is_yes(answer), "{answer:?}");
        }
        for answer in ["", "\n", "n\n", "no\n", "yess\n", "ja\n"] {
            assert!(!is_yes(answer), "{answer:?}");
        }
    }

    #[test]
    fn effect_is_printed_as_a_list() {
        assert_eq!(list(&["one".to_owned(), "two".to_owned()]), "- one\n- two\n");
    }
}
