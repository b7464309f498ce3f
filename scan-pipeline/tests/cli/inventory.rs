//! A job by S3 Inventory, from its manifest in a bucket of S3 to the last object, whoever is killed on the way.

use std::process::Stdio;
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use md5::{Digest, Md5};
use scan_pipeline_tests::marker::{eicar, harmless};
use scan_pipeline_tests::servers::{Running, S3Server, start};
use scan_pipeline_tests::stream::gz;
use serde_json::{Value, json};

use crate::scene::Scene;

const OBJECTS: usize = 150;
const PATIENCE: Duration = Duration::from_secs(120);

/// What is infected is moved, and the rest stays where it is.
fn config(server: &Running) -> String {
    let s3 = |name: &str| {
        format!(
            "{name} = {{ url = \"s3://{name}\", endpoint = \"{}\", region = \"{}\", access_key = \"{}\", \
             secret_key = \"${{SECRET}}\", conditional_delete = true }}\n",
            server.endpoint(),
            server.region(),
            server.access_key()
        )
    };
    format!(
        "[engine.clamav]\ndefinitions = \"${{DEFINITIONS}}\"\nthreads = 2\n\
         [store]\nurl = \"sqlite://state.db\"\n[queue]\nurl = \"sqlite://queue.db\"\n\
         [worker]\nlease = \"1s\"\nresume = \"1s\"\n[limits]\nlease = \"1s\"\n[buckets]\n{}{}{}\
         [policy]\nclean = \"leave\"\ninfected = \"isolate\"\nunscannable = \"leave\"\n\
         [[workflow.isolate.steps]]\ndo = \"relocate\"\nto = \"infected\"\n",
        s3("uploads"),
        s3("lists"),
        s3("infected"),
    )
}

/// A bucket with versions, a list of it, and what was done to it since.
struct World<'a> {
    server: &'a Running,
    client: aws_sdk_s3::Client,
}

impl<'a> World<'a> {
    fn new(server: &'a Running) -> Self {
        let credentials = Credentials::new(server.access_key(), server.secret_key(), None, None, "test");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(server.region()))
            .endpoint_url(server.endpoint())
            .force_path_style(true)
            .credentials_provider(credentials)
            .http_client(aws_smithy_http_client::Builder::new().build_http());
        Self { server, client: aws_sdk_s3::Client::from_conf(config.build()) }
    }

    async fn put(&self, bucket: &str, key: &str, bytes: Vec<u8>) -> aws_sdk_s3::operation::put_object::PutObjectOutput {
        self.client.put_object().bucket(bucket).key(key).body(bytes.into()).send().await.expect("put")
    }

    async fn fill(&self) {
        for name in ["uploads", "lists", "infected"] {
            self.client.create_bucket().bucket(name).send().await.expect("a bucket");
        }
        let kept = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let request = self.client.put_bucket_versioning().bucket("uploads").versioning_configuration(kept);
        request.send().await.expect("versions");
        let mut files = [String::new(), String::new()];
        for number in 0..OBJECTS {
            let (key, bytes) =
                (format!("2026/{number} {number}"), if is_infected(number) { eicar() } else { harmless() });
            let size = bytes.len();
            let put = self.put("uploads", &key, bytes).await;
            let (version, etag) =
                (put.version_id().expect("a version"), put.e_tag().expect("an etag").trim_matches('"'));
            let key = key.replace(' ', "+");
            let row = ["uploads", &key, version, "true", "false", &size.to_string(), etag].join("\",\"");
            files[number % 2] += &format!("\"{row}\"\n");
        }
        // Clean ones are infected now: their versions of the list are clean all the same.
        for number in (0..OBJECTS).filter(|number| number % 10 == 1) {
            self.put("uploads", &format!("2026/{number} {number}"), eicar()).await;
        }
        let mut named = Vec::new();
        for (number, rows) in files.iter().enumerate() {
            let (key, bytes) = (format!("day/data/{number}.csv.gz"), gz(rows.as_bytes()));
            let md5: String = Md5::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            named.push(json!({ "key": key, "size": bytes.len(), "MD5checksum": md5 }));
            self.put("lists", &key, bytes).await;
        }
        self.put_manifest("day/manifest.json", &named).await;
        named[1]["MD5checksum"] = "00000000000000000000000000000000".into();
        self.put_manifest("day/wrong.json", &named).await;
        named[1]["key"] = "day/data/missing.csv.gz".into();
        self.put_manifest("day/missing.json", &named).await;
    }

    async fn put_manifest(&self, key: &str, files: &[Value]) {
        let text = json!({
            "sourceBucket": "uploads", "destinationBucket": "arn:aws:s3:::lists", "version": "2016-11-30",
            "creationTimestamp": "1763500000000", "fileFormat": "CSV", "files": files,
            "fileSchema": "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag",
        });
        self.put("lists", key, text.to_string().into_bytes()).await;
    }

    async fn count(&self, bucket: &str) -> usize {
        let listed = self.client.list_objects_v2().bucket(bucket).send().await.expect("a page");
        listed.contents().len()
    }

    fn said(&self, scene: &Scene, arguments: &[&str]) -> crate::Said {
        crate::run(scene.command(&[arguments, &["-c", "config.toml"]].concat()).env("SECRET", self.server.secret_key()))
    }
}

fn is_infected(number: usize) -> bool {
    number.is_multiple_of(10)
}

#[test]
fn a_job_by_inventory_comes_to_its_end_although_a_worker_is_killed() {
    let Some(server) = start(S3Server::Versitygw) else { return };
    let world = World::new(&server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(world.fill());
    let scene = Scene::new();
    std::fs::write(scene.path("config.toml"), config(&server)).expect("written");
    let said = |arguments: &[&str]| world.said(&scene, arguments);
    let begin = |manifest: &str| {
        let inventory = format!("s3://lists/day/{manifest}");
        // Where they are set up with an endpoint, buckets still go by their plain address.
        let said = said(&["jobs", "start", "s3://uploads", "--inventory", &inventory, "--chunk", "5", "--json"]);
        assert_eq!(said.code, 0, "{}", said.err);
        said.json().remove(0)["id"].as_str().expect("an id").to_owned()
    };
    let show = |id: &str| said(&["jobs", "show", id, "--json"]).json().remove(0);
    let prefixed = said(&["jobs", "start", "s3://uploads/2026/", "--inventory", "s3://lists/day/manifest.json"]);
    assert!(prefixed.code == 2 && prefixed.err.contains("of a whole bucket"), "{}", prefixed.err);

    let id = begin("manifest.json");
    let mut command = scene.command(&["work", "-c", "config.toml"]);
    command.env("SECRET", server.secret_key()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut killed = command.spawn().expect("it starts");
    let since = Instant::now();
    while show(&id)["totals"]["clean"] == 0 {
        assert!(since.elapsed() < PATIENCE, "{}", show(&id));
    }
    killed.kill().expect("it was there");
    killed.wait().expect("it is gone");
    assert_eq!(said(&["work", "--until-empty"]).code, 0);
    let job = show(&id);
    let counted = |name: &str| job["totals"][name].as_u64();
    let infected = (0..OBJECTS).filter(|number| is_infected(*number)).count();
    assert_eq!(job["state"], "done", "{job}");
    assert_eq!((counted("infected"), counted("clean")), (Some(infected as u64), Some((OBJECTS - infected) as u64)));
    for nothing in ["unscannable", "skipped", "gone", "failed"] {
        assert_eq!(counted(nothing), Some(0), "{job}");
    }
    assert_eq!(runtime.block_on(world.count("infected")), infected);
    assert_eq!(runtime.block_on(world.count("uploads")), OBJECTS - infected, "what came since stays where it is");
    assert_eq!(said(&["audit", "verify"]).code, 0);

    for (manifest, why) in [("wrong.json", "is not the file that the manifest means"), ("missing.json", "not there")] {
        let id = begin(manifest);
        assert_eq!(said(&["work", "--until-empty"]).code, 1, "a message is dead");
        let shown = said(&["jobs", "show", &id]);
        let squeezed = shown.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains("state failed: ") && squeezed.contains(why), "{}", shown.out);
        assert_eq!(shown.code, 1);
    }
}
