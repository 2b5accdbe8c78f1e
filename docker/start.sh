#!/bin/bash
# Serve ssh for the key in PUBLIC_KEY (RunPod sets it), in the foreground, until the container is stopped; arguments go to sshd.
# Without a key nobody can log in; the container stays, so that its logs can be read and a key be added.
set -u

keys="${SSH_KEY_FOLDER:-/etc/ssh}"
authorized="$HOME/.ssh/authorized_keys"

mkdir -p "$keys" "$HOME/.ssh" /run/sshd
chmod 700 "$HOME/.ssh"
touch "$authorized"
chmod 600 "$authorized"
if [ -n "${PUBLIC_KEY:-}" ] && ! grep -qxF -- "$PUBLIC_KEY" "$authorized"; then
    printf '%s\n' "$PUBLIC_KEY" >>"$authorized"
fi
[ -s "$authorized" ] || echo "PUBLIC_KEY is empty: nobody can log in. Set it to your public ssh key."

# Keys of this container's own: an image that held them would give all its containers the same.
[ -e "$keys/ssh_host_ed25519_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$keys/ssh_host_ed25519_key"
echo "Host key, to compare at the first connection (cai pod check):"
ssh-keygen -lf "$keys/ssh_host_ed25519_key.pub"

session=()
# `runpodctl stop pod $RUNPOD_POD_ID` is run from within a session, which does not inherit the container's variables.
[ -n "${RUNPOD_POD_ID:-}" ] && session=(-o "SetEnv=RUNPOD_POD_ID=$RUNPOD_POD_ID")
exec /usr/sbin/sshd -D -e -p "${SSH_PORT:-22}" \
    -o "HostKey=$keys/ssh_host_ed25519_key" -o "AuthorizedKeysFile=$authorized" -o PidFile=none \
    -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no -o PermitRootLogin=prohibit-password \
    "${session[@]}" "$@"
