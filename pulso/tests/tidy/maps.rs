//! The maps are true: `lib.rs`, and each list of modules below it, is in an order in which a module
//! imports only modules above itself. So modules cannot form circles, and a reader who goes down the
//! list meets nothing unknown.
//!
//! The check reads source text: `crate::`, `self::` and `super::` paths, in `use` trees and in code. A
//! name that a parent imports or exports again counts as the module it came from. Tests, comments and
//! strings do not count; what a parent's own file defines may be named by all modules below it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{members, root, shipped};

/// Groups in groups of a `use` tree. rustfmt writes no deeper ones.
const DEPTH_MAX: usize = 8;

/// The segments of a path, such as `["crate", "scylla", "rows"]`.
type Segments = Vec<String>;

/// A file of a crate, by the path of its module; that of `lib.rs` is empty.
type Files = BTreeMap<Segments, String>;

#[test]
fn every_module_imports_only_modules_above_it_in_their_parents_list() {
    let mut wrong = Vec::new();
    for member in members() {
        let source = member.join("src");
        let name = member.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        if !source.join("lib.rs").exists() {
            continue;
        }
        let mut files = Files::new();
        read(&source, Vec::new(), &mut files);
        wrong.extend(violations(&files).into_iter().map(|what| format!("{name}: {what}")));
    }
    assert!(wrong.is_empty(), "move the module in the list, or end the circle: {wrong:#?}");
}

#[test]
fn a_module_that_names_a_later_one_is_found_however_it_writes_the_path() {
    let lib = "pub mod first;\n\nmod second;\n#[cfg(test)]\nmod testing;\npub use second::Thing;\n";
    for (names, code) in [
        (true, "use crate::second;"),
        (true, "use crate::{\n    first::A,\n    second::{self, B},\n};"),
        (true, "use super::second::B as C;"),
        (true, "use crate::{second as other};"),
        (true, "fn f() -> super::Thing {}"),
        (true, "fn f() { crate::second::call::<u8>() }"),
        (true, "fn f(quote: char) { quote == '\"' || second('\"', crate::second::B) }"),
        (false, "use crate::first::second;"),
        (false, "// crate::second\n/* crate::second */ fn f() { \"crate::second\" }"),
        (false, "fn f<'a>() { r#\"\" crate::second\"# }"),
        (false, "use crate::{testing, Own, third};"),
        (false, "#[cfg(test)]\nmod tests {\n    use crate::second;\n}"),
        (false, "use other::crate_second; use domain::second;"),
    ] {
        let file = |path: &[&str], text: &str| {
            (path.iter().map(|name| (*name).to_owned()).collect::<Segments>(), source(text))
        };
        let files =
            [file(&[], lib), file(&["first"], code), file(&["second"], "use crate::first;")];
        assert_eq!(!violations(&Files::from(files)).is_empty(), names, "{code}");
    }
}

/// Reads a module's file and those below it.
fn read(source_directory: &Path, module: Segments, files: &mut Files) {
    let mut path: PathBuf = source_directory.join(module.iter().collect::<PathBuf>());
    if module.is_empty() {
        path.push("lib");
    }
    let path = path.with_extension("rs");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let text = source(&text);
    for child in children(&text) {
        read(source_directory, [&module[..], &[child]].concat(), files);
    }
    files.insert(module, text);
}

/// What each list of modules has in the wrong order.
fn violations(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for (module, text) in files {
        for named in paths(text) {
            let Some(named) = absolute(module, &named) else { continue };
            // Where the ways to the two part: there they are two of one list.
            let shared = module.iter().zip(&named).take_while(|(a, b)| a == b).count();
            let (Some(own), Some(other)) = (module.get(shared), named.get(shared)) else {
                continue;
            };
            let (list, parent) = (&module[..shared], &files[&module[..shared]]);
            let listed = children(parent);
            let place = |name: &String| listed.iter().position(|child| child == name);
            let imported = imports(parent);
            let other = if place(other).is_some() { Some(other) } else { imported.get(other) };
            if let Some(other) = other
                && place(other) > place(own)
            {
                let list = ["crate"].into_iter().chain(list.iter().map(String::as_str));
                let list = list.collect::<Vec<_>>().join("::");
                found.push(format!("{list} lists `{own}` above `{other}`, which it imports"));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// A path from the crate's root.
fn absolute(module: &[String], path: &[String]) -> Option<Segments> {
    let (first, mut rest) = path.split_first()?;
    let mut base = match first.as_str() {
        "crate" => &[],
        "self" => module,
        _ => module.split_last()?.1,
    };
    while let Some((again, behind)) = rest.split_first().filter(|(name, _)| *name == "super") {
        (base, rest) =
            (base.split_last().unwrap_or_else(|| panic!("{again} of the root")).1, behind);
    }
    Some([base, rest].concat())
}

/// Modules that a file lists and ships, in its order. rustfmt writes each on a line of its own.
fn children(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut before = "";
    for line in source.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [.., "mod", name] = words[..]
            && let Some(name) = name.strip_suffix(';')
            && !before.starts_with("#[cfg(test)]")
        {
            found.push(name.to_owned());
        }
        before = line;
    }
    found
}

/// Names that a file imports from modules that it lists, with those modules.
fn imports(source: &str) -> BTreeMap<String, String> {
    let listed = children(source);
    let mut found = BTreeMap::new();
    for (_, tree) in starts(source, "use ") {
        for path in expand(tree) {
            let path = if path[0] == "self" { &path[1..] } else { &path[..] };
            if let [module, .., name] = path
                && listed.contains(module)
            {
                found.insert(name.clone(), module.clone());
            }
        }
    }
    found
}

/// Every path from the crate's root, from here or from above in a source.
fn paths(source: &str) -> Vec<Segments> {
    let starts = ["crate::", "self::", "super::"].map(|first| starts(source, first));
    let texts = starts.into_iter().flatten().map(|(at, _)| &source[at..]);
    texts.flat_map(expand).collect()
}

/// Where a word begins that is not the rest of another or of a path, and the text behind it.
fn starts<'a>(source: &'a str, word: &str) -> Vec<(usize, &'a str)> {
    let is_free = |at: &usize| {
        let before = source[..*at].chars().next_back();
        before.is_none_or(|character| !is_of_name(character) && character != ':')
    };
    let found = source.match_indices(word).map(|(at, _)| at).filter(is_free);
    found.map(|at| (at, &source[at + word.len()..])).collect()
}

fn is_of_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The paths of the tree that a text begins with: `a::{b, c as d}` gives `a b` and `a c d`.
fn expand(text: &str) -> Vec<Segments> {
    let mut found = Vec::new();
    branch(text, &[], &mut found);
    found
}

/// Adds the paths of a tree behind these segments; gives the text behind the tree.
fn branch<'a>(text: &'a str, before: &[String], found: &mut Vec<Segments>) -> &'a str {
    assert!(before.len() <= DEPTH_MAX, "a path of more than {DEPTH_MAX} segments: {before:?}");
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(behind) = rest.strip_prefix('}') {
                return behind;
            }
            let behind = branch(rest, before, found).trim_start();
            let behind = behind.strip_prefix(',').unwrap_or(behind);
            // Not a tree, but a block of code behind `super::`; it ends this one.
            if behind.len() == rest.len() {
                return behind;
            }
            rest = behind;
        }
    }
    let (name, rest) = text.split_at(text.find(|c| !is_of_name(c)).unwrap_or(text.len()));
    let path = [before, &[name.to_owned()]].concat();
    match rest.strip_prefix("::") {
        Some(behind) if behind.starts_with(|c| is_of_name(c) || c == '{') => {
            branch(behind, &path, found)
        }
        _ => {
            // `a::{self}` is `a`, and `a as b` is `a b`.
            let path = if name == "self" && !before.is_empty() { before.to_vec() } else { path };
            let alias = rest.strip_prefix(" as ").unwrap_or_default();
            let (alias, behind) = alias.split_at(alias.find(|c| !is_of_name(c)).unwrap_or(0));
            let is_renamed = !alias.is_empty();
            found.push(if is_renamed { [&path[..], &[alias.to_owned()]].concat() } else { path });
            if is_renamed { behind } else { rest }
        }
    }
}

/// What a file ships, without comments and without what is between quotes.
fn source(text: &str) -> String {
    let mut source = String::new();
    let mut rest = shipped(text);
    while let Some(character) = rest.chars().next() {
        let is_in_word = source.chars().next_back().is_some_and(is_of_name);
        let skipped = match character {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => quoted(rest, '"'),
            // A lifetime has no second quote.
            '\'' if rest[1..].starts_with('\\') => quoted(rest, '\''),
            '\'' if rest.chars().nth(2) == Some('\'') => quoted(rest, '\''),
            'r' if !is_in_word => raw(rest),
            _ => 0,
        };
        if skipped == 0 {
            source.push(character);
            rest = &rest[character.len_utf8()..];
        } else {
            rest = &rest[skipped..];
        }
    }
    source
}

/// Bytes of a literal with escapes.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Bytes of a raw string; none where the text begins with none.
fn raw(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    if text.as_bytes().get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let (start, end) = (2 + hashes, format!("\"{}", "#".repeat(hashes)));
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}
