//! `[buckets]`: where objects are.

use std::path::PathBuf;

use super::problem::hint;
use super::read::{Item, Reader, Section};
use super::text::{Secret, Text};
use crate::model::BucketUrl;

/// A bucket under its short name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BucketSpec {
    pub(super) name: String,
    pub(super) place: Place,
    /// The prefix to watch, if it is watched.
    pub(super) watch: Option<String>,
    /// Objects may be deleted although a delete cannot be pinned.
    pub(super) accept_unpinned_delete: bool,
    pub(super) at: usize,
}

/// Where a bucket is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    Folder(PathBuf),
    Memory(BucketUrl),
    S3(Box<S3Spec>),
    Gcs(BucketUrl),
    Azure(BucketUrl),
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct S3Spec {
    pub(super) bucket: String,
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) path_style: Option<bool>,
    pub(super) versions: Option<bool>,
    pub(super) conditional_delete: Option<bool>,
    pub(super) access_key: Option<Secret>,
    pub(super) secret_key: Option<Secret>,
    pub(super) session_token: Option<Secret>,
}

impl Place {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Folder(path) => format!("file://{}", path.display()),
            Self::Memory(url) | Self::Gcs(url) | Self::Azure(url) => url.to_string(),
            Self::S3(spec) => match &spec.endpoint {
                None => format!("s3://{}", spec.bucket),
                Some(endpoint) => format!("s3://{} at {endpoint}", spec.bucket),
            },
        }
    }

    /// Whether an address is in this bucket, endpoints aside.
    pub(super) fn has(&self, address: &str) -> bool {
        let plain = match self {
            Self::S3(spec) => format!("s3://{}", spec.bucket),
            place => place.describe(),
        };
        address.strip_prefix(&plain).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// What cannot delete just the state that was scanned, where that is known before it is asked.
    pub(super) fn cannot_pin_deletes(&self) -> Option<&'static str> {
        match self {
            Self::Gcs(_) => Some("deletes in Google Cloud Storage"),
            Self::Azure(_) => Some("deletes in Azure Blob Storage"),
            Self::S3(spec) if spec.conditional_delete == Some(false) && spec.versions == Some(false) => {
                Some("deletes with conditional_delete = false and without versions")
            }
            Self::S3(_) | Self::Folder(_) | Self::Memory(_) => None,
        }
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::S3(a), Self::S3(b)) => a.bucket == b.bucket && a.endpoint == b.endpoint,
            _ => self == other,
        }
    }
}

/// The buckets, and the names of all of them, with those that cannot be used: nothing else is wrong with what names one.
pub(super) fn read(root: &Section<'_>) -> (Vec<BucketSpec>, Vec<String>) {
    let Some(item) = root.get("buckets") else {
        root.missing("buckets", "no bucket is set up: write [buckets] with a name and an address for each");
        return Default::default();
    };
    let Some(section) = item.section() else { return Default::default() };
    let mut names = Vec::new();
    let mut buckets: Vec<BucketSpec> = Vec::new();
    // Every key is a name here, so none is unknown.
    for (name, at, item) in section.entries() {
        names.push(name.clone());
        let Some(bucket) = bucket(name, at, &item) else { continue };
        if let Some(other) = buckets.iter().find(|other| other.place.same(&bucket.place)) {
            item.mistake(format!("is the same bucket as `{}`: one bucket has one name", other.name));
        }
        if let Place::Folder(path) = &bucket.place {
            let mixes = |folder: &PathBuf| folder != path && (folder.starts_with(path) || path.starts_with(folder));
            for (other, _) in folders(&buckets).filter(|(_, folder)| mixes(folder)) {
                item.mistake(format!("is inside of the folder of `{other}`, or around it: their objects would mix"));
            }
        }
        buckets.push(bucket);
    }
    if names.is_empty() {
        section.missing("quarantine", "no bucket is set up: write a name and an address for each");
    }
    (buckets, names)
}

fn folders(buckets: &[BucketSpec]) -> impl Iterator<Item = (&str, &PathBuf)> {
    buckets.iter().filter_map(|bucket| match &bucket.place {
        Place::Folder(path) => Some((bucket.name.as_str(), path)),
        _ => None,
    })
}

/// A bucket is an address, or a table with one.
fn bucket(name: String, at: usize, item: &Item<'_>) -> Option<BucketSpec> {
    if name.is_empty() || name.contains("://") {
        item.mistake("a bucket's name is a short word, such as quarantine");
        return None;
    }
    if !item.is_table() {
        if item.is_list() || item.is_flag() {
            item.mistake("should be an address in quotes, or a table with `url = \"...\"`");
            return None;
        }
        let url = item.text()?;
        return Some(BucketSpec {
            name,
            place: place(item.reader, &url, None)?,
            watch: None,
            accept_unpinned_delete: false,
            at,
        });
    }
    item.section()?.read(|section| {
        let prefix = section.text("prefix");
        let watch = section.flag("watch").unwrap_or_default();
        if let Some(prefix) = &prefix
            && !watch
        {
            prefix.warning(section.reader, "does nothing here: only a bucket with `watch = true` is listed");
        }
        let watch = watch.then(|| prefix.map(|prefix| prefix.value).unwrap_or_default());
        let accept_unpinned_delete = section.flag("accept_unpinned_delete").unwrap_or_default();
        let url = section.required("url", "write file:///absolute/path, ./folder or s3://name");
        let scheme = url.as_ref().map(|url| url.value.split_once("://").map_or("file", |(scheme, _)| scheme));
        let options = match scheme {
            Some("s3") => Some(s3(section)),
            // The options of S3 are known keys where nobody can tell the kind of the bucket.
            None => Some(s3(section)),
            Some(_) => None,
        };
        let place = place(section.reader, &url?, options)?;
        Some(BucketSpec { name, place, watch, accept_unpinned_delete, at })
    })
}

fn s3(section: &Section<'_>) -> S3Spec {
    let reader = section.reader;
    let secret = |name| section.text(name).map(|text| text.secret(reader));
    let endpoint = section.text("endpoint");
    if let Some(endpoint) = &endpoint {
        check_endpoint(reader, endpoint);
    }
    let spec = S3Spec {
        bucket: String::new(),
        endpoint: endpoint.map(|endpoint| endpoint.value),
        region: section.text("region").map(|region| region.value),
        path_style: section.flag("path_style"),
        versions: section.flag("versions"),
        conditional_delete: section.flag("conditional_delete"),
        access_key: section.text("access_key").map(|key| Secret::new(key.value)),
        secret_key: secret("secret_key"),
        session_token: secret("session_token"),
    };
    for (one, other) in [("access_key", "secret_key"), ("secret_key", "access_key"), ("session_token", "secret_key")] {
        if section.is_there(one) && !section.is_there(other) {
            section.missing(other, format!("is missing: {one} says nothing without it"));
        }
    }
    spec
}

fn check_endpoint(reader: &Reader<'_>, endpoint: &Text) {
    match url::Url::parse(&endpoint.value) {
        Ok(url) if url.scheme() == "https" && url.has_host() => {}
        Ok(url) if url.scheme() == "http" && url.has_host() => {
            let local = url.host_str().is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host));
            if !local {
                endpoint.warning(reader, "is not encrypted: objects can be read and changed on their way");
            }
        }
        _ => endpoint.mistake(reader, format!("`{}` is no address: write https://host", endpoint.address())),
    }
}

fn place(reader: &Reader<'_>, url: &Text, options: Option<S3Spec>) -> Option<Place> {
    let wrong = |why: &str| {
        url.mistake(reader, format!("`{}` is no bucket: {why}", url.address()));
        None
    };
    let Some((scheme, rest)) = url.value.split_once("://") else {
        let is_path = url.value == "." || ["/", "./", "../"].iter().any(|start| url.value.starts_with(start));
        if is_path {
            return Some(Place::Folder(folder(reader, url, &url.value)));
        }
        return wrong("write file:///absolute/path, ./folder or s3://name");
    };
    let parsed = || url.value.parse::<BucketUrl>();
    let has = |feature: &str, name: &str, there: bool| {
        if !there {
            url.mistake(reader, format!("this build has no {name}; rebuild with --features {feature}"));
        }
        there
    };
    match scheme {
        "file" if rest.starts_with('/') => Some(Place::Folder(folder(reader, url, rest))),
        "file" => wrong("a folder's address has three slashes: file:///absolute/path; or write ./folder"),
        "memory" => match parsed() {
            Ok(parsed) => {
                url.warning(reader, "keeps objects in memory only: they are gone when the program ends");
                Some(Place::Memory(parsed))
            }
            Err(_) => wrong("write memory://name"),
        },
        "s3" if rest.is_empty() || rest.contains(['/', '?', '#', '@']) => {
            wrong("write s3://name; endpoint, region, prefix and credentials are keys of their own")
        }
        "s3" => {
            let mut spec = options.unwrap_or_default();
            spec.bucket = rest.to_owned();
            has("s3", "S3", cfg!(feature = "s3")).then(|| Place::S3(Box::new(spec)))
        }
        "gs" | "az" => {
            let Ok(parsed) = parsed() else { return wrong("write gs://name or az://container") };
            if scheme == "gs" {
                has("gcs", "Google Cloud Storage", cfg!(feature = "gcs")).then_some(Place::Gcs(parsed))
            } else {
                has("azure", "Azure Blob Storage", cfg!(feature = "azure")).then_some(Place::Azure(parsed))
            }
        }
        other => wrong(&format!("there is no scheme `{other}`{}", hint(other, ["file", "s3", "gs", "az", "memory"]))),
    }
}

/// The folder's path as `..` and links have it, so that one folder is one bucket.
fn folder(reader: &Reader<'_>, url: &Text, path: &str) -> PathBuf {
    let path = reader.base.join(path);
    match path.canonicalize() {
        Ok(path) if path.is_dir() => path,
        Ok(path) => {
            url.mistake(reader, format!("`{}` is no folder", url.written));
            path
        }
        Err(why) => {
            url.mistake(reader, format!("the folder `{}` cannot be used: {why}", url.written));
            path
        }
    }
}
