# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_volrescue_global_optspecs
    string join \n h/help V/version
end

function __fish_volrescue_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_volrescue_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_volrescue_using_subcommand
    set -l cmd (__fish_volrescue_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c volrescue -n "__fish_volrescue_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c volrescue -n "__fish_volrescue_needs_command" -s V -l version -d 'Print version'
complete -c volrescue -n "__fish_volrescue_needs_command" -f -a "list" -d 'List the disks attached here, what is on them, what could be rescued'
complete -c volrescue -n "__fish_volrescue_needs_command" -f -a "diagnose" -d 'Tell whether sshd would accept the key, and if not, why. Changes nothing'
complete -c volrescue -n "__fish_volrescue_needs_command" -f -a "repair" -d 'Plan, show, ask, apply, verify, unmount'
complete -c volrescue -n "__fish_volrescue_needs_command" -f -a "prove" -d 'Log in through the volume\'s own sshd, which runs in a sandbox here'
complete -c volrescue -n "__fish_volrescue_needs_command" -f -a "undo" -d 'Put back everything that a run changed'
complete -c volrescue -n "__fish_volrescue_needs_command" -f -a "history" -d 'List the runs recorded on this helper, or show one'
complete -c volrescue -n "__fish_volrescue_needs_command" -f -a "shell" -d 'Open a shell with the volume mounted for it alone; gone when it ends'
complete -c volrescue -n "__fish_volrescue_needs_command" -f -a "checks" -d 'List every check: its name, what it means, what fixes it'
complete -c volrescue -n "__fish_volrescue_needs_command" -f -a "userdata" -d 'Print EC2 user data that mends the login path at boot, without a helper'
complete -c volrescue -n "__fish_volrescue_needs_command" -f -a "generate" -d 'Write the man pages or the shell completions into a directory'
complete -c volrescue -n "__fish_volrescue_needs_command" -f -a "enclose" -d 'Do one stage of shell; started by shell itself'
complete -c volrescue -n "__fish_volrescue_needs_command" -f -a "sandbox" -d 'Do one stage of the sandbox of prove; started by prove itself'
complete -c volrescue -n "__fish_volrescue_needs_command" -f -a "tool" -d 'Become a tool that works on the volume; started by volrescue itself'
complete -c volrescue -n "__fish_volrescue_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c volrescue -n "__fish_volrescue_using_subcommand list" -l json -d 'Print one JSON document on standard output, nothing else there'
complete -c volrescue -n "__fish_volrescue_using_subcommand list" -s v -l verbose -d 'Say more on standard error about what is being done'
complete -c volrescue -n "__fish_volrescue_using_subcommand list" -s h -l help -d 'Print help'
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -l partition -d 'Take partition N as the root' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -l root -d 'Take this filesystem as the root: UUID, label, PARTUUID, subvolume or VG/LV' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -l with -d 'Another volume that holds part of the tree, as a /home. May repeat' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -l luks-key -d 'Open what is encrypted with LUKS with the key or passphrase in FILE. May repeat. Without it, a passphrase is asked for on the terminal' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -l jobs -d 'Work on N targets at a time' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -s u -l user -d 'The login user; may repeat. Default: the image\'s own default user' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -s k -l key -d 'A key: OpenSSH, RFC 4716 or PuTTY public key, or a private key (only its public half is taken); - is standard input. May repeat' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -l from -d 'Judge for a client at this address, and host name, if given' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -l report -d 'Write a page of HTML about the run to FILE here, for a ticket (0600; of files that exist only an earlier report is replaced)' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -l allow-backing -d 'Follow the backing file of an image also outside of its directory'
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -l live -d 'Allow / itself, the running system, as the target'
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -l replay -d 'Let the kernel replay a dirty journal on the volume itself (a write)'
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -l explain -d 'Print every step that sshd takes, passed or failed'
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -l json -d 'Print one JSON document on standard output, nothing else there'
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -s v -l verbose -d 'Say more on standard error about what is being done'
complete -c volrescue -n "__fish_volrescue_using_subcommand diagnose" -s h -l help -d 'Print help'
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l partition -d 'Take partition N as the root' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l root -d 'Take this filesystem as the root: UUID, label, PARTUUID, subvolume or VG/LV' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l with -d 'Another volume that holds part of the tree, as a /home. May repeat' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l luks-key -d 'Open what is encrypted with LUKS with the key or passphrase in FILE. May repeat. Without it, a passphrase is asked for on the terminal' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l jobs -d 'Work on N targets at a time' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -s u -l user -d 'The login user; may repeat. Default: the image\'s own default user' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -s k -l key -d 'A key: OpenSSH, RFC 4716 or PuTTY public key, or a private key (only its public half is taken); - is standard input. May repeat' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l generate-key -d 'Make an Ed25519 pair, write its private half to FILE here, add it' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l from -d 'Judge for a client at this address, and host name, if given: rules that name client addresses are then decided, and mended by their --fix class' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l chown -d 'Whose entries in the home become the user\'s: root\'s and the wrong owner\'s (tree), all, or only the path that sshd looks at (login). Default: tree; with --minimal: login' -r -f -a "tree\t'Entries of root and of the wrong owner found on the home or .ssh'
all\t'Literally everything, as `chown -R`'
login\t'Only the path that sshd looks at'"
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l chown-from -d 'With tree: take entries of this owner too. May repeat' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l fix -d 'Allow changes beyond permissions, keys and the user entry' -r -f -a "sshd-config\t'Edit sshd_config; no line is deleted, what must go becomes a comment'
account\t'Lock (no password is set), expiry, shell, nologin, PAM\'s lists'
host-keys\t'Make missing or unusable host keys anew'
service\t'Enable and unmask the ssh unit'
system\t'TCP wrappers that refuse the client, owner and mode of sudo\'s files'
all\t'All classes that there are'"
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l report -d 'Write a page of HTML about the run to FILE here, for a ticket (0600; of files that exist only an earlier report is replaced)' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l state-dir -d 'Where runs are journaled [env: VOLRESCUE_STATE_DIR]' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l allow-backing -d 'Follow the backing file of an image also outside of its directory'
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l live -d 'Allow / itself, the running system, as the target'
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l create-user -d 'Put back the user entry if it is missing'
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l sudo -d 'With --create-user: admin groups and sudo also for other users than the image\'s default user'
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l dry-run -d 'Print the plan, change nothing'
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l minimal -d 'Change only what makes sshd refuse'
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l fsck -d 'Let the filesystem\'s own checker run first: e2fsck -p, xfs_repair after its log is replayed, or btrfs check, which only looks'
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l prove -d 'End with a login through the volume\'s own sshd, as prove does'
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l no-journal -d 'Keep no journal, where nothing can be written here: the run can then not be undone, and what a killed one left half-way is not known'
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -s y -l yes -d 'Do not ask'
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -l json -d 'Print one JSON document on standard output, nothing else there'
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -s v -l verbose -d 'Say more on standard error about what is being done'
complete -c volrescue -n "__fish_volrescue_using_subcommand repair" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c volrescue -n "__fish_volrescue_using_subcommand prove" -l partition -d 'Take partition N as the root' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand prove" -l root -d 'Take this filesystem as the root: UUID, label, PARTUUID, subvolume or VG/LV' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand prove" -l with -d 'Another volume that holds part of the tree, as a /home. May repeat' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand prove" -l luks-key -d 'Open what is encrypted with LUKS with the key or passphrase in FILE. May repeat. Without it, a passphrase is asked for on the terminal' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand prove" -s u -l user -d 'The login user' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand prove" -s k -l key -d 'A private key without passphrase to log in with; - is standard input. Default: a pair made for this login, added in memory to the files of keys that exist, so that all but the key itself is proved' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand prove" -l timeout -d 'End the login after so many seconds' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand prove" -l allow-backing -d 'Follow the backing file of an image also outside of its directory'
complete -c volrescue -n "__fish_volrescue_using_subcommand prove" -l live -d 'Allow / itself, the running system, as the target'
complete -c volrescue -n "__fish_volrescue_using_subcommand prove" -l json -d 'Print one JSON document on standard output, nothing else there'
complete -c volrescue -n "__fish_volrescue_using_subcommand prove" -s v -l verbose -d 'Say more on standard error about what is being done'
complete -c volrescue -n "__fish_volrescue_using_subcommand prove" -s h -l help -d 'Print help'
complete -c volrescue -n "__fish_volrescue_using_subcommand undo" -l target -d 'The volume, where it is not found by its recorded id' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand undo" -l with -d 'The volume that held part of the tree, if it is not where it was' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand undo" -l luks-key -d 'Open what is encrypted with LUKS with the key or passphrase in FILE' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand undo" -l state-dir -d 'Where runs are journaled [env: VOLRESCUE_STATE_DIR]' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand undo" -l allow-backing -d 'Follow the backing file of an image also outside of its directory'
complete -c volrescue -n "__fish_volrescue_using_subcommand undo" -l live -d 'Allow / itself as the target'
complete -c volrescue -n "__fish_volrescue_using_subcommand undo" -l dry-run -d 'Print what would be put back, change nothing'
complete -c volrescue -n "__fish_volrescue_using_subcommand undo" -l force -d 'Take the old state also where something was changed since the run'
complete -c volrescue -n "__fish_volrescue_using_subcommand undo" -s y -l yes -d 'Do not ask'
complete -c volrescue -n "__fish_volrescue_using_subcommand undo" -l json -d 'Print one JSON document on standard output, nothing else there'
complete -c volrescue -n "__fish_volrescue_using_subcommand undo" -s v -l verbose -d 'Say more on standard error about what is being done'
complete -c volrescue -n "__fish_volrescue_using_subcommand undo" -s h -l help -d 'Print help'
complete -c volrescue -n "__fish_volrescue_using_subcommand history" -l prune -d 'Remove the runs that are undone; with DAYS also those that ended by themselves and began so many days ago, which can then not be undone' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand history" -l state-dir -d 'Where runs are journaled [env: VOLRESCUE_STATE_DIR]' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand history" -l json -d 'Print one JSON document on standard output, nothing else there'
complete -c volrescue -n "__fish_volrescue_using_subcommand history" -s v -l verbose -d 'Say more on standard error about what is being done'
complete -c volrescue -n "__fish_volrescue_using_subcommand history" -s h -l help -d 'Print help'
complete -c volrescue -n "__fish_volrescue_using_subcommand shell" -l partition -d 'Take partition N as the root' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand shell" -l root -d 'Take this filesystem as the root: UUID, label, PARTUUID, subvolume or VG/LV' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand shell" -l with -d 'Another volume that holds part of the tree, as a /home. May repeat' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand shell" -l luks-key -d 'Open what is encrypted with LUKS with the key or passphrase in FILE. May repeat. Without it, a passphrase is asked for on the terminal' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand shell" -l state-dir -d 'Where runs are journaled [env: VOLRESCUE_STATE_DIR]' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand shell" -l allow-backing -d 'Follow the backing file of an image also outside of its directory'
complete -c volrescue -n "__fish_volrescue_using_subcommand shell" -l live -d 'Allow / itself, the running system, as the target'
complete -c volrescue -n "__fish_volrescue_using_subcommand shell" -l writable -d 'Mount the volume so that it can be changed; undo can\'t take it back'
complete -c volrescue -n "__fish_volrescue_using_subcommand shell" -l chroot -d 'Run the volume\'s own shell, with the volume as its /: its programs run on this machine, held back by namespaces'
complete -c volrescue -n "__fish_volrescue_using_subcommand shell" -l json -d 'Print one JSON document on standard output, nothing else there'
complete -c volrescue -n "__fish_volrescue_using_subcommand shell" -s v -l verbose -d 'Say more on standard error about what is being done'
complete -c volrescue -n "__fish_volrescue_using_subcommand shell" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c volrescue -n "__fish_volrescue_using_subcommand checks" -l json -d 'Print one JSON document on standard output, nothing else there'
complete -c volrescue -n "__fish_volrescue_using_subcommand checks" -s v -l verbose -d 'Say more on standard error about what is being done'
complete -c volrescue -n "__fish_volrescue_using_subcommand checks" -s h -l help -d 'Print help'
complete -c volrescue -n "__fish_volrescue_using_subcommand userdata" -s u -l user -d 'The login user' -r
complete -c volrescue -n "__fish_volrescue_using_subcommand userdata" -s k -l key -d 'A key to add, as for repair; may repeat' -r -F
complete -c volrescue -n "__fish_volrescue_using_subcommand userdata" -s h -l help -d 'Print help'
complete -c volrescue -n "__fish_volrescue_using_subcommand generate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c volrescue -n "__fish_volrescue_using_subcommand enclose" -s h -l help -d 'Print help'
complete -c volrescue -n "__fish_volrescue_using_subcommand sandbox" -s h -l help -d 'Print help'
complete -c volrescue -n "__fish_volrescue_using_subcommand tool" -s h -l help -d 'Print help'
complete -c volrescue -n "__fish_volrescue_using_subcommand help; and not __fish_seen_subcommand_from list diagnose repair prove undo history shell checks userdata generate enclose sandbox tool help" -f -a "list" -d 'List the disks attached here, what is on them, what could be rescued'
complete -c volrescue -n "__fish_volrescue_using_subcommand help; and not __fish_seen_subcommand_from list diagnose repair prove undo history shell checks userdata generate enclose sandbox tool help" -f -a "diagnose" -d 'Tell whether sshd would accept the key, and if not, why. Changes nothing'
complete -c volrescue -n "__fish_volrescue_using_subcommand help; and not __fish_seen_subcommand_from list diagnose repair prove undo history shell checks userdata generate enclose sandbox tool help" -f -a "repair" -d 'Plan, show, ask, apply, verify, unmount'
complete -c volrescue -n "__fish_volrescue_using_subcommand help; and not __fish_seen_subcommand_from list diagnose repair prove undo history shell checks userdata generate enclose sandbox tool help" -f -a "prove" -d 'Log in through the volume\'s own sshd, which runs in a sandbox here'
complete -c volrescue -n "__fish_volrescue_using_subcommand help; and not __fish_seen_subcommand_from list diagnose repair prove undo history shell checks userdata generate enclose sandbox tool help" -f -a "undo" -d 'Put back everything that a run changed'
complete -c volrescue -n "__fish_volrescue_using_subcommand help; and not __fish_seen_subcommand_from list diagnose repair prove undo history shell checks userdata generate enclose sandbox tool help" -f -a "history" -d 'List the runs recorded on this helper, or show one'
complete -c volrescue -n "__fish_volrescue_using_subcommand help; and not __fish_seen_subcommand_from list diagnose repair prove undo history shell checks userdata generate enclose sandbox tool help" -f -a "shell" -d 'Open a shell with the volume mounted for it alone; gone when it ends'
complete -c volrescue -n "__fish_volrescue_using_subcommand help; and not __fish_seen_subcommand_from list diagnose repair prove undo history shell checks userdata generate enclose sandbox tool help" -f -a "checks" -d 'List every check: its name, what it means, what fixes it'
complete -c volrescue -n "__fish_volrescue_using_subcommand help; and not __fish_seen_subcommand_from list diagnose repair prove undo history shell checks userdata generate enclose sandbox tool help" -f -a "userdata" -d 'Print EC2 user data that mends the login path at boot, without a helper'
complete -c volrescue -n "__fish_volrescue_using_subcommand help; and not __fish_seen_subcommand_from list diagnose repair prove undo history shell checks userdata generate enclose sandbox tool help" -f -a "generate" -d 'Write the man pages or the shell completions into a directory'
complete -c volrescue -n "__fish_volrescue_using_subcommand help; and not __fish_seen_subcommand_from list diagnose repair prove undo history shell checks userdata generate enclose sandbox tool help" -f -a "enclose" -d 'Do one stage of shell; started by shell itself'
complete -c volrescue -n "__fish_volrescue_using_subcommand help; and not __fish_seen_subcommand_from list diagnose repair prove undo history shell checks userdata generate enclose sandbox tool help" -f -a "sandbox" -d 'Do one stage of the sandbox of prove; started by prove itself'
complete -c volrescue -n "__fish_volrescue_using_subcommand help; and not __fish_seen_subcommand_from list diagnose repair prove undo history shell checks userdata generate enclose sandbox tool help" -f -a "tool" -d 'Become a tool that works on the volume; started by volrescue itself'
complete -c volrescue -n "__fish_volrescue_using_subcommand help; and not __fish_seen_subcommand_from list diagnose repair prove undo history shell checks userdata generate enclose sandbox tool help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
