//! What one row of the key table says, and the macro that turns the rows of a section into a
//! struct, its defaults and its reader.
//!
//! Invariants worth naming:
//! * a key is written down once, in [`table`](super::table); the struct field, the default, the
//!   bounds, the reference page and `corelane check` all come from that row.

use super::read::Scan;
use toml::de::DeTable;

/// What a value may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bounds {
    /// Whatever the type of the setting allows.
    Free,
    /// A number in `smallest..=largest`.
    Within(u64, u64),
    /// A power of two in `smallest..=largest`.
    PowerOfTwo(u64, u64),
}

/// When a changed value can take effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reload {
    /// A running broker takes a new value over at SIGHUP.
    Live,
    /// The value shapes what is built at the start, or was told to clients.
    Restart,
}

/// How a section appears in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// One `[section]`; every key has a default.
    Table,
    /// Any number of `[[section]]`; every key has a default.
    Repeated,
    /// Entries of an array, `{ … }` each; every key must be written.
    Rule,
}

/// One row of the key table. Pure value, any core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// The section that holds the key, such as `session`.
    pub section: &'static str,
    /// The key itself, such as `max_inflight`.
    pub name: &'static str,
    /// What is written as its value, in words.
    pub kind: String,
    /// Which values are allowed.
    pub bounds: Bounds,
    /// What a number counts; empty where nothing is counted.
    pub unit: &'static str,
    /// The default as TOML text; `None` where the key must be written.
    pub default: Option<String>,
    /// When a change takes effect.
    pub reload: Reload,
    /// What the key is for, in a sentence or two.
    pub doc: &'static str,
}

impl Key {
    /// The path of the key, such as `session.max_inflight`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

/// A struct whose fields are the keys of one section.
pub trait Section: Sized {
    /// Name of the section, such as `session`.
    const NAME: &'static str;
    /// How the section appears in the text.
    const SHAPE: Shape;
    /// What the section is about.
    const DOC: &'static str;

    /// The section with the default of every key.
    fn standard() -> Self;
    /// The rows of the section in the order of the table.
    fn keys() -> Vec<Key>;
    /// Reads the section at `path`; a key with a fault keeps its default, the fault goes to `scan`.
    fn read(table: &DeTable<'_>, path: &str, scan: &mut Scan) -> Self;
    /// The values as TOML text, in the order of [`Section::keys`].
    fn shown(&self) -> Vec<String>;
}

/// Any number that the type of the setting can hold.
pub(super) const FREE: Bounds = Bounds::Free;

/// A number in `smallest..=largest`.
pub(super) const fn within(smallest: u64, largest: u64) -> Bounds {
    Bounds::Within(smallest, largest)
}

/// A power of two in `smallest..=largest`.
pub(super) const fn power_of_two(smallest: u64, largest: u64) -> Bounds {
    Bounds::PowerOfTwo(smallest, largest)
}

/// The key that a field stands for: its name without the mark of a raw identifier.
pub(super) fn key_name(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

/// Declares a section: `field: Type = default, bounds, unit, reload;` for each key.
macro_rules! section {
    ($(#[doc = $intro:literal])+ $name:literal, $shape:ident => pub struct $type:ident {
        $( $(#[doc = $doc:literal])+
           $field:ident : $kind:ty = $default:expr, $bounds:expr, $unit:literal, $reload:ident; )+
    }) => {
        $(#[doc = $intro])+
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $type { $( $(#[doc = $doc])+ pub $field: $kind, )+ }

        impl $crate::config::key::Section for $type {
            const NAME: &'static str = $name;
            const SHAPE: Shape = Shape::$shape;
            const DOC: &'static str = concat!($($intro, "\n"),+);

            fn standard() -> Self {
                Self { $( $field: $default, )+ }
            }

            fn keys() -> Vec<Key> {
                let required = Self::SHAPE == Shape::Rule;
                let standard = Self::standard();
                vec![$( Key {
                    section: $name,
                    name: key_name(stringify!($field)),
                    kind: <$kind as Setting>::kind(),
                    bounds: $bounds,
                    unit: $unit,
                    default: (!required).then(|| standard.$field.show()),
                    reload: Reload::$reload,
                    doc: concat!($($doc, "\n"),+),
                } ),+]
            }

            fn read(table: &DeTable<'_>, path: &str, scan: &mut Scan) -> Self {
                let keys = Self::keys();
                scan.refuse_unknown(table, path, &keys);
                let mut rows = keys.iter();
                Self { $( $field: {
                    let key = rows.next().expect("one row for each field");
                    scan.take(table, path, key).unwrap_or_else(|| $default)
                }, )+ }
            }

            fn shown(&self) -> Vec<String> {
                vec![$( self.$field.show() ),+]
            }
        }
    };
}
pub(super) use section;
