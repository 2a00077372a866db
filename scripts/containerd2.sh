#!/bin/sh
# containerd2.sh FOLDER: builds containerd 2 and a runc that can map users, for hosts of a lab, from the versions that internal/lab/containerd2
# names. It takes minutes the first time. runc needs a C compiler and libseccomp's headers (Debian: gcc libc6-dev libseccomp-dev pkg-config).
set -eu
mkdir -p "$1"
to=$(cd "$1" && pwd)
cd "$(dirname "$0")/../internal/lab/containerd2"
if ! pkg-config --exists libseccomp; then
	echo "containerd2: libseccomp's headers are missing: apt-get install gcc libc6-dev libseccomp-dev pkg-config" >&2
	exit 1
fi
containerd=github.com/containerd/containerd/v2/cmd
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -tags no_btrfs,no_devmapper,no_zfs -o "$to/" \
	$containerd/containerd $containerd/containerd-shim-runc-v2 $containerd/ctr
CGO_ENABLED=1 go build -trimpath -ldflags '-s -w' -tags seccomp -o "$to/" github.com/opencontainers/runc
