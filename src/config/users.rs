//! `[instances.NAME.users.USER]`: who may connect, when the proxy itself asks for passwords.
//!
//! Of a password only its SHA-256 is kept. Comparing digests takes the same time whatever is compared.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use toml_edit::{Item, TableLike};

use super::reader::{Reader, key_span};
use super::schema::UserTable;
use super::secret::Secret;
use super::section::{Section, TABLE};
use super::store_table::{password_from_env, password_from_file, warn_world_readable_config};
use super::value::Setting;
use crate::command::acl::Acl;

/// The most users of an instance, and the longest name of one.
const MAX_USERS: usize = 1000;
const MAX_NAME: usize = 128;

/// The SHA-256 of a password. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordDigest([u8; 32]);

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    password: PasswordDigest,
    /// What the user may do.
    pub acl: Acl,
}

/// The users of an instance, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users(BTreeMap<String, Arc<User>>);

/// The words of a user's `acl`, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclWords(Acl);

// === impl PasswordDigest ===

impl PasswordDigest {
    /// Of a password.
    pub fn of(password: &[u8]) -> PasswordDigest {
        PasswordDigest(Sha256::digest(password).into())
    }

    fn parse(hex: &str) -> Option<PasswordDigest> {
        let mut digest = [0; 32];
        if hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, digits) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(PasswordDigest(digest))
    }

    /// Is this the password? Takes the same time whether it is or not.
    pub fn is_of(&self, password: &[u8]) -> bool {
        self.0.ct_eq(&PasswordDigest::of(password).0).into()
    }
}

impl fmt::Debug for PasswordDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

// === impl Users ===

impl Users {
    /// The user of this name, if the password is theirs. As slow for a name that nobody has.
    pub fn verify(&self, name: &[u8], password: &[u8]) -> Option<Arc<User>> {
        let user = std::str::from_utf8(name).ok().and_then(|name| self.0.get(name));
        let nobody = PasswordDigest([0; 32]);
        let fits = user.map_or(&nobody, |user| &user.password).is_of(password);
        user.filter(|_| fits).cloned()
    }

    /// The user of this name.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.0.get(std::str::from_utf8(name).ok()?)
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Setting for Users {
    const KIND: &'static str = TABLE;

    fn parse(item: &Item) -> Result<Self, String> {
        // Only `read` knows where relative paths start.
        Err(format!("this is a {}; write a section for each user", item.type_name()))
    }

    fn read(item: &Item, section: &str, key: &str, reader: &mut Reader) -> Option<Self> {
        let section = format!("{section}.{key}");
        let table = reader.table(item, &section)?;
        let mut users = BTreeMap::new();
        let mut whole = true;
        for (name, item) in table.iter() {
            match read_user(table, name, item, &section, reader) {
                Some(user) => drop(users.insert(name.to_owned(), Arc::new(user))),
                None => whole = false,
            }
        }
        if users.len() > MAX_USERS {
            reader.error(item.span(), format!("[{section}] has more than {MAX_USERS} users"));
            return None;
        }
        whole.then_some(Users(users))
    }

    fn absent() -> Option<Self> {
        Some(Users::default())
    }
}

fn read_user(
    parent: &dyn TableLike,
    name: &str,
    item: &Item,
    section: &str,
    reader: &mut Reader,
) -> Option<User> {
    let valid = |c: char| !c.is_whitespace() && !c.is_control();
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(valid) {
        let text = format!("a user of [{section}] has 1 to {MAX_NAME} characters, and no blanks");
        reader.error(key_span(parent, name, item), text);
        return None;
    }
    let section = format!("{section}.{name}");
    let table = reader.table(item, &section)?;
    let written = UserTable::read(table, item.span(), &section, reader)?;
    let at = |key: &str| table.get(key).and_then(|item| key_span(table, key, item));
    let sources = ["password", "password_sha256", "password_file", "password_env"];
    let given: Vec<&str> = sources.into_iter().filter(|key| table.contains_key(key)).collect();
    let [given] = *given.as_slice() else {
        let text =
            format!("[{section}] needs one of password, password_sha256, password_file and password_env");
        reader.error(at(given.first().copied().unwrap_or_default()).or_else(|| item.span()), text);
        return None;
    };
    let digest = |secret: Secret| PasswordDigest::of(secret.expose().as_bytes());
    let UserTable { password, password_sha256, password_file, password_env, acl } = written;
    let password = match (password, password_sha256, password_file, password_env) {
        (Some(password), ..) => {
            warn_world_readable_config(at(given), reader);
            Some(digest(password))
        }
        (_, Some(hex), ..) => PasswordDigest::parse(hex.expose()),
        (.., Some(path), _) => password_from_file(&path, given, at(given), &section, reader).map(digest),
        (.., Some(name)) => password_from_env(&name, given, at(given), &section, reader).map(digest),
        _ => None,
    };
    if password.is_none() && given == "password_sha256" {
        reader.error(at(given), format!("'{given}' in [{section}]: write 64 hexadecimal digits (sha256sum)"));
    }
    Some(User { password: password?, acl: acl.0 })
}

impl Setting for AclWords {
    const KIND: &'static str = "list";

    fn parse(item: &Item) -> Result<Self, String> {
        let wrong = || r#"write a list such as ["+@read", "~cached:*"]"#.to_owned();
        let array = item.as_array().ok_or_else(wrong)?;
        let words: Option<Vec<&str>> = array.iter().map(|value| value.as_str()).collect();
        Acl::parse(words.ok_or_else(wrong)?).map(AclWords)
    }
}

#[cfg(test)]
mod tests {
    use super::PasswordDigest;

    #[test]
    fn digests() {
        // echo -n hunter2 | sha256sum
        let hex = "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7";
        let digest = PasswordDigest::parse(hex).unwrap();
        assert!(digest.is_of(b"hunter2") && !digest.is_of(b"hunter3") && !digest.is_of(b""));
        assert_eq!(format!("{digest:?}"), "***");
        assert!(PasswordDigest::parse("f5").is_none() && PasswordDigest::parse(&"+f".repeat(32)).is_none());
    }
}
