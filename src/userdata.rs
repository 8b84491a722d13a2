//! The way without a helper: a cloud-init document that mends the login path at every boot, until it is removed.
//!
//! Multipart MIME as cloud-init reads it: a `text/cloud-config` part that lets user scripts run at every boot, and the
//! script. Seven-bit, so that no console on the way can hurt it.

use crate::keys::PublicKey;
use std::fmt::Write as _;

/// Bytes of user data that EC2 takes, before base64.
pub const EC2_LIMIT: usize = 16 * 1024;

const BOUNDARY: &str = "==volrescue==";

/// What the operator must know before using it.
pub const CAVEATS: &str = "\
This user data mends the login path as root at every boot until it is removed.
- The instance must be stopped to change its user data: data on instance-store
  volumes is lost, and a public address that is no Elastic IP changes.
- A member of an Auto Scaling group may be terminated when it stops: suspend the
  group's processes, or move the instance to standby, before.
- It needs cloud-init on the instance; an instance-store root can't be stopped.
- Keep the user data that is there now (this replaces it), and put it back as
  soon as the login works: who may call ModifyInstanceAttribute is root here.
- The user must exist; repair --create-user on a copy of the root brings one back.
";

/// The document for a user, whose name must be valid, and the keys to add.
#[must_use]
pub fn document(user: &str, keys: &[PublicKey]) -> String {
    format!(
        "Content-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\nMIME-Version: 1.0\n\n\
         {}{}--{BOUNDARY}--\n",
        part(
            "text/cloud-config",
            "cloud-config.txt",
            "#cloud-config\ncloud_final_modules:\n- [scripts-user, always]\n"
        ),
        part("text/x-shellscript", "userdata.txt", &script(user, keys)),
    )
}

fn part(kind: &str, name: &str, body: &str) -> String {
    format!(
        "--{BOUNDARY}\nContent-Type: {kind}; charset=\"us-ascii\"\nMIME-Version: 1.0\n\
         Content-Transfer-Encoding: 7bit\nContent-Disposition: attachment; filename=\"{name}\"\n\n{body}\n"
    )
}

/// Follows no link below the home, where the user could place one, and takes only the path that sshd looks at: it runs
/// as root, again and again.
fn script(user: &str, keys: &[PublicKey]) -> String {
    let mut text = format!(
        r#"#!/bin/sh
# Made by volrescue: mends the login path of one user at every boot. Remove it when the login works.
set -u
umask 077
user='{user}'
say() {{ echo "volrescue: $*" >&2; }}
entry=$(getent passwd "$user") || {{ say "there is no user $user"; exit 1; }}
home=$(printf '%s\n' "$entry" | cut -d: -f6)
group=$(id -g "$user")
ssh=$home/.ssh
file=$ssh/authorized_keys
case $home in /home/?*) ;; *) say "$home is not below /home, left alone"; exit 1 ;; esac
chown root:root /home
chmod 755 /home
[ -d "$home" ] || mkdir "$home"
for path in "$home" "$ssh" "$file"; do
    [ ! -L "$path" ] || {{ say "$path is a symbolic link, left alone"; exit 1; }}
done
[ -d "$ssh" ] || mkdir "$ssh"
[ -e "$file" ] || : >"$file"
"#
    );
    for key in keys {
        let line = ascii_line(key);
        // A last line without its end would swallow the key.
        let _ = write!(
            text,
            "if ! grep -qF '{blob}' \"$file\"; then\n    [ -z \"$(tail -c 1 \"$file\")\" ] || echo >>\"$file\"\n    \
             echo '{line}' >>\"$file\"\nfi\n",
            blob = line.split(' ').nth(1).unwrap_or_default(),
        );
    }
    text.push_str(
        r#"chown -h "$user:$group" "$home" "$ssh" "$file"
chmod 700 "$home" "$ssh"
chmod 600 "$file"
if command -v restorecon >/dev/null 2>&1; then restorecon -F "$home" "$ssh" "$file"; fi
"#,
    );
    text
}

/// Type and key; the comment only where it cannot end the quotes or the seven bits.
fn ascii_line(key: &PublicKey) -> String {
    let line = String::from_utf8_lossy(&key.to_line()).into_owned();
    let mut words = line.splitn(3, ' ');
    let bare = format!("{} {}", words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match words.next() {
        Some(comment) if comment.chars().all(|c| c == ' ' || c.is_ascii_graphic() && c != '\'') => {
            format!("{bare} {comment}")
        }
        _ => bare,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::key;

    #[test]
    fn the_article_s_way_with_what_it_left_out() {
        let text = document("ec2-user", &[key(1)]);
        assert!(text.is_ascii() && text.len() < EC2_LIMIT);
        // Without this line cloud-init takes the part for nothing.
        assert!(text.contains("\n\n#cloud-config\ncloud_final_modules:\n- [scripts-user, always]\n"));
        assert!(text.contains("\n\n#!/bin/sh\n") && text.ends_with("--==volrescue==--\n"));
    }

    #[test]
    fn a_comment_cannot_leave_its_quotes() {
        let text =
            document("ec2-user", &[key(1).with_comment("'; rm -rf /; '"), key(2).with_comment("caf\u{e9}")]);
        assert!(!text.contains("rm -rf") && text.is_ascii());
    }
}
