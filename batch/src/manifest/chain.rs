//! The chain: a link is added at its end, read back, and checked for what was changed.

use jiff::Timestamp;
use reckon_schemas::ids::TenantId;
use uuid::Uuid;

use super::{Action, FORMAT, LakeFile, Manifest, sha256};
use crate::objects::{ObjectError, Objects, numbered_path};

/// How often somebody else may be faster. With a lock around it nobody is.
const ATTEMPTS: u32 = 20;

/// A manifest as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// The number in its name.
    pub(crate) number: u64,
    /// The SHA-256 of its bytes.
    pub(crate) hash: String,
    /// What it says; an error's text if it cannot be read.
    pub(crate) manifest: Result<Manifest, String>,
}

fn folder(tenant: &TenantId) -> String {
    format!("runs/{tenant}")
}

/// Adds a link and returns its hash. Of two that are added at once, one follows the other.
pub(crate) async fn append(
    objects: &Objects,
    tenant: &TenantId,
    run_id: Uuid,
    at: Timestamp,
    action: Action,
) -> Result<String, ObjectError> {
    let folder = folder(tenant);
    let mut action = action;
    for _ in 0..ATTEMPTS {
        let newest = objects.numbered(&folder).await?.last().copied().unwrap_or(0);
        let previous = objects.read(&numbered_path(&folder, newest)).await?.map(|bytes| sha256(&bytes));
        let manifest = Manifest {
            format: FORMAT,
            tenant: tenant.clone(),
            number: newest + 1,
            previous,
            run_id,
            at,
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            action,
        };
        let bytes = serde_json::to_vec_pretty(&manifest).expect("plain data");
        let hash = sha256(&bytes);
        if objects.create(&numbered_path(&folder, newest + 1), bytes).await? {
            return Ok(hash);
        }
        action = manifest.action;
    }
    Err(ObjectError::Unavailable {
        doing: "add a manifest to",
        path: folder,
        reason: format!("another job was faster {ATTEMPTS} times in a row"),
    })
}

/// Every link, in order.
pub(crate) async fn load(objects: &Objects, tenant: &TenantId) -> Result<Vec<Link>, ObjectError> {
    let folder = folder(tenant);
    let mut links = Vec::new();
    for number in objects.numbered(&folder).await? {
        let bytes = objects.read(&numbered_path(&folder, number)).await?.unwrap_or_default();
        let manifest = serde_json::from_slice(&bytes).map_err(|error| error.to_string());
        links.push(Link { number, hash: sha256(&bytes), manifest });
    }
    Ok(links)
}

/// The lake's files that the newest settlement lists; none if there is none.
pub(crate) async fn newest_files(objects: &Objects, tenant: &TenantId) -> Result<Vec<LakeFile>, ObjectError> {
    let folder = folder(tenant);
    for number in objects.numbered(&folder).await?.into_iter().rev() {
        let bytes = objects.read(&numbered_path(&folder, number)).await?.unwrap_or_default();
        if let Ok(Manifest { action: Action::Settled(counted), .. }) = serde_json::from_slice(&bytes) {
            return Ok(counted.files);
        }
    }
    Ok(Vec::new())
}

/// What is wrong with a chain: links that are missing, changed or exchanged.
pub(crate) fn check(tenant: &TenantId, links: &[Link]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut expected = 1;
    let mut previous: Option<&Link> = None;
    for link in links {
        let name = numbered_path(&folder(tenant), link.number);
        if link.number != expected {
            findings.push(match link.number - 1 {
                last if last == expected => format!("manifest {last} is missing"),
                last => format!("manifests {expected} to {last} are missing"),
            });
        }
        match &link.manifest {
            Err(error) => findings.push(format!("{name} cannot be read: {error}")),
            Ok(manifest) => {
                if manifest.number != link.number || manifest.tenant != *tenant {
                    findings.push(format!(
                        "{name} says that it is manifest {} of tenant {}: it was moved",
                        manifest.number, manifest.tenant
                    ));
                }
                let follows = previous.filter(|previous| previous.number + 1 == link.number);
                let expected = follows.map(|previous| previous.hash.as_str());
                if (follows.is_some() || link.number == 1) && manifest.previous.as_deref() != expected {
                    findings.push(match follows {
                        Some(previous) => format!(
                            "manifest {} was changed: {name} was written after one with the hash {}, what is there has {}",
                            previous.number,
                            manifest.previous.as_deref().unwrap_or("of none"),
                            previous.hash
                        ),
                        None => format!("{name} was written after another one, which is missing"),
                    });
                }
            }
        }
        expected = link.number + 1;
        previous = Some(link);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Reopened;
    use super::*;
    use reckon_schemas::stores;

    struct Scene {
        dir: tempfile::TempDir,
        objects: Objects,
        tenant: TenantId,
    }

    impl Scene {
        async fn new(links: u32) -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let lake = stores::Lake::at(format!("file://{}", dir.path().display()));
            let scene =
                Self { objects: Objects::open(&lake).expect("usable"), tenant: "acme".parse().expect("valid"), dir };
            for generation in 0..links {
                scene.append(generation).await;
            }
            scene
        }

        async fn append(&self, generation: u32) -> String {
            let action = Action::Reopened(Reopened {
                period: "2026-10".parse().expect("a month"),
                generation,
                signed_by: "Ada".to_owned(),
                reason: "a test".to_owned(),
            });
            append(&self.objects, &self.tenant, Uuid::now_v7(), Timestamp::UNIX_EPOCH, action).await.expect("written")
        }

        fn file(&self, number: u64) -> std::path::PathBuf {
            self.dir.path().join(numbered_path("runs/acme", number))
        }

        async fn findings(&self) -> String {
            check(&self.tenant, &load(&self.objects, &self.tenant).await.expect("readable")).join("; ")
        }
    }

    #[tokio::test]
    async fn links_follow_each_other_also_when_they_are_added_at_once() {
        let scene = Scene::new(2).await;
        futures::future::join_all((0..6).map(|generation| scene.append(generation))).await;
        let links = load(&scene.objects, &scene.tenant).await.expect("readable");
        assert_eq!(links.len(), 8);
        assert_eq!(check(&scene.tenant, &links), [] as [String; 0]);
    }

    #[tokio::test]
    async fn a_changed_link_is_named() {
        let scene = Scene::new(3).await;
        let text = std::fs::read_to_string(scene.file(2)).expect("there");
        std::fs::write(scene.file(2), text.replace("Ada", "Eve")).expect("written");
        let findings = scene.findings().await;
        assert!(findings.contains("manifest 2 was changed"), "{findings}");
    }

    #[tokio::test]
    async fn a_missing_link_is_named() {
        let scene = Scene::new(4).await;
        std::fs::remove_file(scene.file(2)).expect("there");
        assert_eq!(scene.findings().await, "manifest 2 is missing");
        let scene = Scene::new(2).await;
        std::fs::remove_file(scene.file(1)).expect("there");
        assert_eq!(scene.findings().await, "manifest 1 is missing");
    }

    #[tokio::test]
    async fn exchanged_links_are_named() {
        let scene = Scene::new(4).await;
        let [two, three] = [2, 3].map(|number| std::fs::read(scene.file(number)).expect("there"));
        std::fs::write(scene.file(2), three).expect("written");
        std::fs::write(scene.file(3), two).expect("written");
        let findings = scene.findings().await;
        assert!(findings.contains("says that it is manifest 3"), "{findings}");
    }
}
