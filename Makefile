# The targets are one or two lines each; anything longer is a program or a script with a name.
.PHONY: all build examples test containerd2 race lint golden fuzz bench soak e2e demo deps cover clean help

export CGO_ENABLED ?= 0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD   = go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
# Packages whose tests boot hosts share the machine with few others: two at a time keep their deadlines honest. The stories have it to themselves.
TEST    = go tool gotestsum --format pkgname-and-test-fails -- -timeout 45m -p 2 $(TESTFLAGS)
TESTFLAGS ?=
POD_STORIES = ^Test(LifeOfAPod|HowContainersEnd|GracefulStop|EnvironmentOfAProcess|SecurityFromInside|SecurityThatTheHostRefuses|ConfigUpdatesInPlace|KillWhileConfigChanges|Streams|StatusOfPodsInTrouble|EventsAndUsage|HooksOverHTTPAndOtherWaysToEnd|ProbesKillWhileApplyWaits|BackOffSeries|Names|OutOfMemory|ExecAndLogs|PodFiles|MissingObjects|MountPropagation|PodsOverTheirLimitsOfDisk|PullBackOff|PullSecret|UsersOfTheirOwn|BarePod|RuntimeClass|VolumeKeepsData|VolumeIsRetained|Secret|TagIsPinnedByPlan|PrivateRegistry|WhatNewerRuntimesCan)$$

all: build test

build: examples ## bin/berth (static, stamped with its version) and the programs of the examples
	$(BUILD) -o bin/berth ./cmd/berth

examples:
	$(BUILD) -o examples/hello/bin/hello ./examples/hello
	$(BUILD) -o examples/shop/bin/ ./examples/shop/web ./examples/shop/store

test: deps ## all tests, those on lab hosts included
	$(TEST) $$(go list ./... | grep -v '/e2e$$')
	$(TEST) ./e2e

race: deps ## the same under the race detector; needs a C compiler
	CGO_ENABLED=1 $(TEST) -race ./...

e2e: deps ## only the stories on real hosts, told line by line
	go test -timeout 45m -v -count=1 ./e2e

containerd2: deps ## the tests of pods on containerd 2 and a newer runc, built here; needs a C compiler and libseccomp-dev
	scripts/containerd2.sh bin/containerd2
	LAB_PROGRAMS=$(CURDIR)/bin/containerd2 $(TEST) -count=1 ./providers/runtime ./providers/image ./providers/node
	LAB_PROGRAMS=$(CURDIR)/bin/containerd2 $(TEST) -count=1 -run '$(POD_STORIES)' ./e2e

lint: ## gofmt, vet, staticcheck
	@files=$$(gofmt -l .); test -z "$$files" || { echo "gofmt differs:"; echo "$$files"; exit 1; }
	go vet ./...
	go tool staticcheck ./...

golden: ## rewrite the expected outputs; look at the diff before you commit it
	go test $$(grep -rl '"update"' --include='*_test.go' . | xargs -n1 dirname | sort -u) -update
	UPDATE_SCRIPTS=1 go test ./cmd/berth -run Scripts

fuzz: ## a minute for each fuzz target
	scripts/fuzz.sh 1m

bench: deps ## the figures of docs/benchmarks.md
	go test -run '^$$' -bench . -benchmem ./planner/... ./hcl/... ./statefile/... ./internal/clusterdns
	go test -run '^$$' -bench . -benchtime 3x -timeout 15m ./providers/runtime
	go test -run '^$$' -bench . -benchtime 1x -timeout 15m ./providers/proxy
	go test -run '^$$' -bench Readiness -benchtime 1x -timeout 15m ./cmd/berth
	go test -run '^$$' -bench . -benchtime 1x -timeout 30m ./e2e

soak: deps ## hours of faults in minutes: random kills on simulated and lab hosts, a watchdog over 1,000 nodes, fifty writers on every backend
	go test -run '^$$' -bench Fleet -benchtime 1x -timeout 15m ./watchdog
	SOAK_REBOOTS=1 SOAK_KILLS=$${SOAK_KILLS:-2000} SOAK_LAB_KILLS=$${SOAK_LAB_KILLS:-200} go test -count=1 -timeout 4h -v -run 'TestRandomKills|TestKillsOnALab' ./internal/simhost/simtest
	SOAK_HISTORIES=$${SOAK_HISTORIES:-10000} go test -count=1 -timeout 12h -v -run TestWatchHistories ./cmd/berth
	SOAK=1 go test -timeout 3h -count=1 -v -run Torture ./statefile/...

demo: deps build ## a three-host lab, the shop on it, a change, a rolling update
	scripts/demo.sh

deps: ## the Debian packages that lab hosts need
	scripts/deps.sh

cover: deps ## which lines the tests reach
	$(TEST) -coverpkg ./... -coverprofile cover.out ./... && go tool cover -func cover.out | tail -1

clean:
	rm -rf bin examples/*/bin cover.out

help: ## this list
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10
