//! No circle of files: inside a crate, imports go one way, so that a file can be read, moved and tested
//! without those that use it. `use` lines and paths are read as Rust reads them; a name that is only passed
//! on (`pub use`) leads to the file that defines it, and a face (`lib.rs`, a folder's head) does not depend
//! on what it only shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;
use syn::{Item, UseTree, Visibility};

/// The crates; all of them.
const CRATES: &[&str] = &[
    "gateway",
    "gateway/http1",
    "core",
    "core/api",
    "core/delivery",
    "core/federation",
    "core/model",
    "core/replication",
    "core/rooms",
    "core/rules",
    "core/services",
    "core/storage",
    "core/testkit",
    "core/testkit/simulation",
    "core/users",
    "core/views",
    "workers",
];

/// Folders of a crate that stand in layers: each may import those before it, and none after it.
const LAYERS: &[(&str, &[&str])] =
    &[("core/federation", &["transport", "keys", "transaction", "pdu", "messaging"])];

/// A path of segments; without `crate`, `self` and `super` once it is resolved.
pub(crate) type Segments = Vec<String>;

/// One file of a crate, as far as imports go.
#[derive(Default)]
struct Module {
    children: BTreeSet<String>,
    /// What it names, and whether only to pass it on.
    named: Vec<(Segments, bool)>,
    /// Names it passes on, and what they stand for.
    shown: BTreeMap<String, Segments>,
    /// Single words its code names, to see whether it uses what it passes on.
    words: BTreeSet<String>,
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(module) if is_for_tests(&module.attrs) => {}
            Item::Mod(module) if module.content.is_none() => {
                self.children.insert(module.ident.to_string());
            }
            Item::Use(item) if is_for_tests(&item.attrs) => {}
            Item::Use(item) => {
                let shown = !matches!(item.vis, Visibility::Inherited);
                let mut leaves = Vec::new();
                flatten(&item.tree, &mut Vec::new(), &mut leaves);
                for (path, name) in leaves {
                    if shown {
                        self.shown.insert(name, path.clone());
                    }
                    self.named.push((path, shown));
                }
            }
            _ => syn::visit::visit_item(self, item),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Segments = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.words.insert(segments[0].clone());
        if segments.len() > 1 {
            self.named.push((segments, false));
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        let tokens = called.tokens.to_string().replace(" :: ", "::");
        for word in tokens.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | ':')) {
            let segments: Segments = word.split("::").map(str::to_owned).collect();
            self.words.insert(segments[0].clone());
            if segments.len() > 1 {
                self.named.push((segments, false));
            }
        }
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Every leaf of a `use`, with the name it gets.
fn flatten(tree: &UseTree, before: &mut Segments, leaves: &mut Vec<(Segments, String)>) {
    let mut leaf = |last: &str, name: &str| {
        let mut path = before.clone();
        if last != "self" {
            path.push(last.to_owned());
        }
        let name = if name == "self" { path.last().cloned() } else { Some(name.to_owned()) };
        leaves.push((path, name.unwrap_or_default()));
    };
    match tree {
        UseTree::Name(name) => leaf(&name.ident.to_string(), &name.ident.to_string()),
        UseTree::Rename(name) => leaf(&name.ident.to_string(), &name.rename.to_string()),
        UseTree::Glob(_) => leaves.push((before.clone(), "*".to_owned())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, leaves)),
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, leaves);
            before.pop();
        }
    }
}

/// The files of a crate by their module's path (`a::b`; the root is empty).
fn modules(source: &Path) -> BTreeMap<String, Module> {
    let mut found = BTreeMap::new();
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(source).unwrap().with_extension("");
            let name = name.to_string_lossy().replace('/', "::");
            let is_test = name == "tests" || name.ends_with("::tests") || name.contains("tests::");
            if path.extension().is_some_and(|ending| ending == "rs") && !is_test {
                let name = if name == "lib" || name == "main" { String::new() } else { name };
                let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
                let mut module = Module::default();
                module.visit_file(&file);
                found.insert(name, module);
            }
        }
    }
    found
}

pub(crate) struct Crate(BTreeMap<String, Module>);

impl Crate {
    /// Reads the files of a crate.
    pub(crate) fn read(source: &Path) -> Self {
        Self(modules(source))
    }

    /// A path as it stands in a module, from the crate's root; none if it leads out of the crate.
    fn absolute(&self, module: &str, path: &[String]) -> Option<Segments> {
        let mut base: Segments =
            module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            child if self.0[module].children.contains(child) => {}
            _ => return None,
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    /// The file that defines what a path names.
    fn home(&self, path: &[String]) -> String {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let depth =
                (0..=path.len()).rev().find(|n| self.0.contains_key(&path[..*n].join("::")));
            let depth = depth.unwrap_or_default();
            let module = path[..depth].join("::");
            let Some(name) = path.get(depth) else { return module };
            let Some(next) = self.0[&module].shown.get(name) else { return module };
            let Some(mut next) = self.absolute(&module, next) else { return module };
            next.extend(path[depth + 1..].iter().cloned());
            if next == path {
                return module;
            }
            path = next;
        }
        path.join("::")
    }

    /// Which other files' names a file uses, with the paths by which it does.
    pub(crate) fn names(&self, name: &str) -> Vec<(String, Segments)> {
        let module = &self.0[name];
        let mut found = Vec::new();
        for (path, shown) in &module.named {
            let only_shown = *shown && path.last().is_some_and(|last| !module.words.contains(last));
            let Some(absolute) = self.absolute(name, path).filter(|_| !only_shown) else {
                continue;
            };
            let home = self.home(&absolute);
            if home != name {
                found.push((home, path.clone()));
            }
        }
        found
    }

    /// Which files a file imports, with one of the paths that say so.
    fn imports(&self, name: &str) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for (home, path) in self.names(name) {
            found.entry(home).or_insert_with(|| path.join("::"));
        }
        found
    }
}

/// A circle of files, each with the import that leads on; none if there is none.
fn circle(imports: &BTreeMap<String, BTreeMap<String, String>>) -> Option<String> {
    // What imports nothing that is left is in no circle.
    let mut left: BTreeSet<&String> = imports.keys().collect();
    loop {
        let free = |name: &&&String| !imports[**name].keys().any(|other| left.contains(other));
        let freed: Vec<&String> = left.iter().filter(free).copied().collect();
        if freed.is_empty() {
            break;
        }
        left.retain(|name| !freed.contains(name));
    }
    let mut walked: Vec<&String> = vec![*left.iter().next()?];
    loop {
        let here = walked[walked.len() - 1];
        let next = imports[here].keys().find(|other| left.contains(other))?;
        if let Some(place) = walked.iter().position(|known| *known == next) {
            let shown = |name: &&String| if name.is_empty() { "lib" } else { *name }.to_owned();
            let steps = walked[place..].windows(2).map(|pair| (pair[0], pair[1]));
            let steps = steps.chain([(here, next)]);
            let steps =
                steps.map(|(from, to)| format!("{} uses {}", shown(&from), imports[from][to]));
            return Some(steps.collect::<Vec<_>>().join(", "));
        }
        walked.push(next);
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut problems = Vec::new();
    for krate in CRATES {
        let modules = Crate::read(&root.join(krate).join("src"));
        assert!(modules.0.len() > 1, "{krate} has files");
        let names = modules.0.keys();
        let imports = names.map(|name| (name.clone(), modules.imports(name))).collect();
        problems.extend(circle(&imports).map(|circle| format!("{krate}: {circle}")));
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn a_circle_of_files_is_found() {
    let module = |text: &str| {
        let mut module = Module::default();
        module.visit_file(&syn::parse_file(text).unwrap());
        module
    };
    let krate = |a: &str, b: &str| {
        let root = "mod a; mod b; pub use a::A; pub use b::B;";
        let files = [("", root), ("a", a), ("b", b)];
        Crate(files.map(|(name, text)| (name.to_owned(), module(text))).into())
    };
    let circle_of = |krate: &Crate| {
        let names = krate.0.keys();
        circle(&names.map(|name| (name.clone(), krate.imports(name))).collect())
    };
    let straight = krate("pub struct A;", "use crate::A; pub struct B(A);");
    assert_eq!(circle_of(&straight), None);
    let by_use = krate("use crate::B; pub struct A(B);", "use super::A; pub struct B(Box<A>);");
    assert_eq!(circle_of(&by_use).as_deref(), Some("a uses crate::B, b uses super::A"));
    let by_path = krate("fn f() { crate::b::g() }", "fn g() { crate::a::f() }");
    assert!(circle_of(&by_path).is_some());
    let in_tests = krate("#[cfg(test)] mod tests { use crate::B; } pub struct A;", "use crate::A;");
    assert_eq!(circle_of(&in_tests), None);
}

/// Imports from a folder into one of a higher layer.
fn upwards(krate: &Crate, layers: &[&str]) -> Vec<String> {
    let layer = |module: &str| {
        let folder = module.split("::").next().unwrap_or_default();
        layers.iter().position(|name| *name == folder)
    };
    let mut found = Vec::new();
    for name in krate.0.keys() {
        let own = layer(name);
        let above = krate.imports(name).into_iter().filter(|(other, _)| layer(other) > own);
        // The face of the crate shows what it likes.
        let above = above.filter(|_| own.is_some());
        found.extend(above.map(|(_, path)| format!("{name} uses {path}")));
    }
    found
}

#[test]
fn layers_import_only_downwards() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    for (krate, layers) in LAYERS {
        let modules = Crate::read(&root.join(krate).join("src"));
        for layer in *layers {
            assert!(modules.0.contains_key(*layer), "{krate} has the layer {layer}");
        }
        assert_eq!(upwards(&modules, layers), Vec::<String>::new(), "{krate}");
    }
}

#[test]
fn an_import_upwards_is_found() {
    let module = |text: &str| {
        let mut module = Module::default();
        module.visit_file(&syn::parse_file(text).unwrap());
        module
    };
    let files = [
        ("", "mod low; mod high; pub use high::High;"),
        ("low", "mod deep; pub struct Low;"),
        ("low::deep", "use crate::high::High; pub struct Deep(High);"),
        ("high", "use crate::low::Low; pub struct High(Low);"),
    ];
    let krate = Crate(files.map(|(name, text)| (name.to_owned(), module(text))).into());
    assert_eq!(upwards(&krate, &["low", "high"]), ["low::deep uses crate::high::High"]);
    assert_eq!(upwards(&krate, &["high", "low"]), ["high uses crate::low::Low"]);
}
