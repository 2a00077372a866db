// Package lab makes throwaway hosts on one Linux machine, as kind does for Kubernetes.
//
// Each host is a set of namespaces (network, mount, pid, uts, ipc, cgroup) over an overlay of the machine's `/`:
// it has its own address, sshd, containerd, iptables, sysctls and cgroups, and a disk of its own that survives
// Stop and Start. [Up] makes a lab, [Open] finds one made earlier, [Lab.Down] removes every trace of it:
// processes, mounts, devices, cgroups, files.
//
// What a host does not have is systemd. Its pid 1 is a small shell script (assets/init.sh) which does at boot
// what systemd would do for Berth: apply the sysctls, run the enabled one-shot units, then start containerd and sshd
// and start them again when they end. `systemctl` inside a host is a stand-in (assets/systemctl.sh) for
// the few verbs that such units need.
//
// All mounts of a host live in its own mount namespace and all its network devices in its own network namespace, so
// that the kernel removes them with its last process. On the machine there are only a bridge per lab, one end of a cable
// per host, cgroups named berth-lab, and the lab's folder.
//
// A lab is no sandbox: root in a host is root on the machine, and what the kernel does not keep per namespace is shared: its modules,
// its clock, sysctls outside net. A file system mounted below `/` on the machine, other than the usual virtual ones, is not
// seen by the hosts. Hosts know no way out of the lab's network but to the machine.
//
// Start reading at [Up]; then disk.go (what lies on a host's disk), boot.go (how the namespaces are made) and the scripts
// in assets. Tests use package labtest.
package lab
