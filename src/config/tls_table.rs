//! `[instances.NAME.tls]`: the files that a listener shows and trusts. Read at once, so that a wrong one is an error of
//! the configuration.

use std::path::Path;

use toml_edit::Item;

use super::reader::{Reader, key_span};
use super::schema::TlsTable;
use super::section::Section;
use super::value::{ClientCert, Setting};
use crate::tls::ServerFiles;

impl Setting for ServerFiles {
    const KIND: &'static str = super::section::TABLE;

    fn parse(item: &Item) -> Result<Self, String> {
        // Only `read` knows where relative paths start.
        Err(format!("this is a {}; write a section", item.type_name()))
    }

    fn read(item: &Item, section: &str, key: &str, reader: &mut Reader) -> Option<Self> {
        let section = format!("{section}.{key}");
        let table = reader.table(item, &section)?;
        let written = TlsTable::read(table, item.span(), &section, reader)?;
        let at = |key: &str| table.get(key).and_then(|item| key_span(table, key, item));
        if written.client_cert != ClientCert::None && written.client_ca.is_none() {
            reader.error(
                at("client_cert"),
                format!("'client_cert' in [{section}] needs client_ca, the CAs that clients' certificates come from"),
            );
            return None;
        }
        let home = reader.path.parent().unwrap_or(Path::new(""));
        let files = ServerFiles {
            cert: home.join(&written.cert),
            key: home.join(&written.key),
            client_ca: written.client_ca.as_ref().map(|path| home.join(path)),
            client_cert: written.client_cert,
            min_version: written.min_version,
        };
        match files.load() {
            Ok(_) => Some(files),
            Err(problem) => {
                reader.error(item.span().or_else(|| at("cert")), format!("[{section}]: {problem}"));
                None
            }
        }
    }
}
