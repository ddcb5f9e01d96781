//! The transcripts of README.md are run, in order, against one testnet of real processes: what it shows is what happens.
//!
//! In a transcript `[..]` stands for anything within a line and a line `...` for any number of lines. `cargo testnet`,
//! `cargo client` and `cargo keys` run the programs that were built with this test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

struct Step {
    command: String,
    expected: Vec<String>,
    line: usize,
}

/// The console blocks of one chapter.
fn steps(readme: &str, chapter: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut inside, mut in_chapter) = (false, false);
    for (number, line) in readme.lines().enumerate() {
        if line.starts_with("## ") {
            in_chapter = line.contains(chapter);
        } else if in_chapter && line.starts_with("```") {
            inside = line.starts_with("```console");
        } else if in_chapter && inside {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => {
                    steps.push(Step { command: command.to_owned(), expected: Vec::new(), line: number + 1 });
                }
                (None, Some(step)) => step.expected.push(line.trim_end().to_owned()),
                (None, None) => {}
            }
        }
    }
    for step in &mut steps {
        while step.expected.last().is_some_and(String::is_empty) {
            step.expected.pop();
        }
    }
    steps
}

/// Whether a line fits a pattern with `[..]`.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split("[..]");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or("")) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn all_fit(patterns: &[String], lines: &[&str]) -> bool {
    match patterns.split_first() {
        None => lines.is_empty(),
        Some((pattern, others)) if pattern == "..." => (0..=lines.len()).any(|skip| all_fit(others, &lines[skip..])),
        Some((pattern, others)) => {
            lines.split_first().is_some_and(|(line, rest)| fits(pattern, line.trim_end()) && all_fit(others, rest))
        }
    }
}

#[test]
fn patterns_fit_what_they_should() {
    assert!(fits("OK revision [..] seq [..] (2 of 4)", "OK revision 2 seq 187 (2 of 4)"));
    assert!(!fits("OK revision [..]", "no revision 2"));
    assert!(!fits("hello", "hello there"));
    let patterns = ["a".to_owned(), "...".to_owned(), "z".to_owned()];
    assert!(all_fit(&patterns, &["a", "b", "c", "z"]));
    assert!(!all_fit(&patterns, &["a", "b"]));
}

fn programs() -> PathBuf {
    let testnet = PathBuf::from(env!("CARGO_BIN_EXE_quorate-testnet"));
    testnet.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Runs one line as a shell would, with the aliases of `.cargo/config.toml` standing for the built programs.
fn run(command: &str, home: &Path) -> Output {
    let programs = programs();
    let program = |name: &str| format!("'{}'", programs.join(name).display());
    let mut line = command
        .replace("cargo testnet", &program("quorate-testnet"))
        .replace("cargo client", &program("quorate"))
        .replace("cargo keys", &program("quorate-keys"));
    if command.contains("cargo testnet up") {
        // Tests of other checkouts may hold the usual ports.
        line.push_str(" --any-port");
    }
    Command::new("sh")
        .arg("-c")
        .arg(&line)
        .current_dir(home)
        .env("NO_COLOR", "1")
        .env_remove("QUORATE_CLUSTER")
        .stdin(Stdio::null())
        .output()
        .expect("a shell")
}

/// Stops the testnet whatever happens.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        run("cargo testnet down", self.0);
    }
}

#[test]
fn the_tour_of_readme_runs_as_it_is_written() {
    let readme = include_str!("../../README.md");
    let steps = steps(readme, "tour");
    assert!(steps.len() >= 10, "the tour has {} steps", steps.len());
    for program in ["quorate", "quorate-keys"] {
        assert!(
            programs().join(program).exists(),
            "{program} is not built: run the tests as README says, `cargo test --workspace`"
        );
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let _down = Down(home.path());
    for step in steps {
        let output = run(&step.command, home.path());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = text.trim_end().lines().collect();
        assert!(
            all_fit(&step.expected, &lines),
            "README.md:{}: `{}` gave\n{text}{}instead of\n{}",
            step.line,
            step.command,
            String::from_utf8_lossy(&output.stderr),
            step.expected.join("\n")
        );
    }
}
