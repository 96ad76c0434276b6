//! The token of the admin listener: written, in a file, or in the environment.

use std::ops::Range;
use std::path::Path;

use toml_edit::{Document, Item, Table};

use super::load::read_text;
use super::reader::Reader;
use super::schema::AdminConfig;
use super::secret::Secret;
use super::section::Section;
use super::store_table::{password_from_env, password_from_file, warn_world_readable_config};

/// Puts the token, wherever it stands, into `admin.token`.
pub fn resolve(root: &Table, admin: &mut AdminConfig, reader: &mut Reader) -> Option<()> {
    let at = |key: &str| -> Option<Range<usize>> { root.get("admin")?.get(key)?.span() };
    let keys = ["token", "token_file", "token_env"];
    if keys.into_iter().filter(|key| at(key).is_some()).count() > 1 {
        let text = "[admin] has several tokens; write it once: token, token_file or token_env";
        reader.error(at("token_env").or_else(|| at("token_file")), text.to_owned());
        return None;
    }
    if admin.token.is_some() {
        warn_world_readable_config(at("token"), reader);
    }
    if let Some(path) = &admin.token_file {
        admin.token = Some(password_from_file(path, "token_file", at("token_file"), "admin", reader)?);
    }
    if let Some(name) = &admin.token_env {
        admin.token = Some(password_from_env(name, "token_env", at("token_env"), "admin", reader)?);
    }
    if admin.token.as_ref().is_some_and(|token| !token.expose().bytes().all(|byte| byte.is_ascii_graphic())) {
        let at = keys.into_iter().find_map(at);
        reader
            .error(at, "the token of [admin] is sent in a header; write visible ASCII characters".to_owned());
        return None;
    }
    if admin.token.is_none() && !admin.listen.is_loopback() {
        let text = format!(
            "'{}' is reached from other machines, and whoever reaches it reads metrics and state; write token_file in \
             [admin], or listen on 127.0.0.1",
            admin.listen
        );
        reader.warning(at("listen"), text);
    }
    Some(())
}

/// The token that the file `path` gives, as far as it can be told: for commands that ask a running proxy.
pub fn admin_token(path: &Path) -> Option<Secret> {
    let (text, mode) = read_text(path).ok()?;
    let document = Document::parse(text.as_str()).ok()?;
    let env = |name: &str| std::env::var(name).ok();
    let mut reader = Reader::new(path, &text, Some(mode), &env);
    let item: &Item = document.as_table().get("admin")?;
    let mut admin = AdminConfig::read(item.as_table_like()?, None, "admin", &mut reader)?;
    resolve(document.as_table(), &mut admin, &mut reader)?;
    admin.token
}
