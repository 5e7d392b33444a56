//! Disks that are full, read-only, or in two parts where one is needed: the old files stay, and the sentence names the cure.

use std::process::Command;

use crate::{
    irsad::{Machine, Result},
    missing,
};

/// Whether mounts can be made in a namespace of our own; names the test as missing where not.
fn can_mount() -> bool {
    let works = Command::new("unshare")
        .args(["-m", "mount", "-t", "tmpfs", "t", "/mnt"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !works {
        missing("mount namespaces", "full and read-only disks: unshare -m needs root");
    }
    works
}

/// One pass on the quickstart after `script` has changed the mounts of a namespace that ends with it; `$1` is the root folder.
fn on_disk(script: &str) -> Result<(Machine, String)> {
    let machine = Machine::quickstart()?;
    let irsad = machine.command(&["run", "--once"]);
    let output = Command::new("unshare")
        .args(["-m", "sh", "-euc", &format!("{script}\nshift; \"$@\""), "sh"])
        .arg(machine.root())
        .arg(irsad.get_program())
        .args(irsad.get_args())
        .current_dir(machine.root())
        .output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    Ok((machine, said))
}

#[test]
fn full_disk_leaves_the_manifest_as_it_was_and_says_so() -> Result {
    if !can_mount() {
        return Ok(());
    }
    let script =
        "root=$1; cp -r $root/etc/kubernetes $root/copy; mount -t tmpfs -o size=40k,mode=755 t $root/etc/kubernetes
        cp -r $root/copy/. $root/etc/kubernetes; dd if=/dev/zero of=$root/etc/kubernetes/fill bs=1k 2>/dev/null || :
        trap 'cmp $root/copy/manifests/kube-apiserver.yaml $root/etc/kubernetes/manifests/kube-apiserver.yaml && echo unchanged >&2' EXIT";
    let (_, said) = on_disk(script)?;
    assert!(said.ends_with("unchanged\n"), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains("old file kept"), "{said}");
    Ok(())
}

#[test]
fn read_only_file_system_is_named() -> Result {
    if !can_mount() {
        return Ok(());
    }
    let (_, said) =
        on_disk("mount --bind $1/etc/kubernetes $1/etc/kubernetes; mount -o remount,bind,ro $1/etc/kubernetes")?;
    assert!(said.contains("Read-only file system"), "{said}");
    Ok(())
}

#[test]
fn manifest_folder_on_a_mount_of_its_own_is_refused_with_the_cure() -> Result {
    if !can_mount() {
        return Ok(());
    }
    let (machine, said) = on_disk("mount --bind $1/etc/kubernetes/manifests $1/etc/kubernetes/manifests")?;
    assert!(said.contains("ReadWritePaths=/etc/kubernetes"), "{said}");
    let original = std::fs::read_to_string(
        crate::irsad::project().join("examples/quickstart/etc/kubernetes/manifests/kube-apiserver.yaml"),
    )?;
    assert_eq!(machine.read("/etc/kubernetes/manifests/kube-apiserver.yaml")?, original);
    Ok(())
}

#[test]
fn folder_that_others_may_write_is_refused() -> Result {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::quickstart()?;
    let folder = machine.path("/etc/kubernetes/manifests");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777))?;
    let said = machine.run(&["run", "--once"])?;
    assert_eq!(said.code, Some(1));
    assert!(said.stdout.contains("manifests") && said.stdout.contains("chmod"), "{said:?}");
    Ok(())
}
