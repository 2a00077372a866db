package main

import (
	"fmt"
	"strings"
)

// watchUnit is the name of the systemd unit of a watchdog.
const watchUnit = "berth-watch.service"

// serviceUnit is what a unit of a watchdog is made of.
type serviceUnit struct {
	cluster string
	program string   // absolute path
	args    []string // of it
	user    string
	writes  []string // absolute paths that it has to write to
	local   bool     // it looks after the machine that it runs on, and needs all that a host can do
}

// hardening is what a watchdog does not need, by systemd.exec(5): it speaks to hosts by SSH, to the state's home, and reads its configuration.
var hardening = []string{
	"NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=read-only", "PrivateTmp=yes", "PrivateDevices=yes", "ProtectClock=yes",
	"ProtectControlGroups=yes", "ProtectHostname=yes", "ProtectKernelLogs=yes", "ProtectKernelModules=yes", "ProtectKernelTunables=yes",
	"ProtectProc=invisible", "CapabilityBoundingSet=", "AmbientCapabilities=", "LockPersonality=yes", "MemoryDenyWriteExecute=yes", "RemoveIPC=yes",
	"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6", "RestrictNamespaces=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes",
	"SystemCallArchitectures=native", "SystemCallFilter=@system-service",
}

// text is the unit file.
func (u serviceUnit) text() (string, error) {
	words := append([]string{u.program}, u.args...)
	for i, w := range words {
		q, err := unitWord(w)
		if err != nil {
			return "", err
		}
		words[i] = q
	}
	lines := []string{
		"# Written by berth watch install, which writes it anew; berth watch uninstall removes it.",
		"[Unit]",
		"Description=Berth watchdog of cluster " + u.cluster,
		"Wants=network-online.target",
		"After=network-online.target",
		"StartLimitIntervalSec=0",
		"",
		"[Service]",
		"Type=notify",
		"NotifyAccess=main",
		"ExecStart=" + strings.Join(words, " "),
		"ExecReload=/bin/kill -HUP $MAINPID",
		"Restart=always",
		"RestartSec=2",
		"WatchdogSec=60",
		"TimeoutStartSec=infinity",
		"# The first SIGTERM lets running steps end; what is cut off then is finished by the next watchdog.",
		"TimeoutStopSec=90",
		"KillMode=mixed",
		"User=" + u.user,
		"UMask=0077",
		"LimitNOFILE=65536",
		"EnvironmentFile=-/etc/berth/watch.env",
	}
	if !u.local {
		lines = append(lines, "StateDirectory=berth-watch", "StateDirectoryMode=0700", "CacheDirectory=berth-watch", "CacheDirectoryMode=0700",
			"Environment=XDG_CACHE_HOME=/var/cache/berth-watch")
		lines = append(lines, hardening...)
	}
	for _, w := range u.writes {
		q, err := unitWord(w)
		if err != nil {
			return "", err
		}
		lines = append(lines, "ReadWritePaths="+q)
	}
	lines = append(lines, "", "[Install]", "WantedBy=multi-user.target", "")
	return strings.Join(lines, "\n"), nil
}

// unitWord writes a word so that systemd reads just it: without specifiers and variables.
func unitWord(s string) (string, error) {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fmt.Errorf("%q holds characters that no unit can", s)
	}
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(s)
	if s == "" || strings.ContainsAny(s, " '\";\\#") {
		return `"` + s + `"`, nil
	}
	return s, nil
}
