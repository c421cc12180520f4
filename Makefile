# make         builds ./gpurun
# make test    sets up what the tests need, where it may, and runs them all
# make test-engines  the tests of launchers and engines alone (Linux, as root)
# make manifests  what Kubernetes itself says of deploy/kubernetes
# make check   the fast part of it: formatting, vet, and one run of the tests
# make fuzz    fuzzes each target for FUZZTIME
# make chaos   runs ROUNDS jobs on hosts to which things happen (Linux, as root)
# make kills   kills coordinators KILLS times, and tells what was lost with them (likewise)
# make generate  writes the generated assembly anew
# make dist    release archives of VERSION, or else of what git describes, in release/
# make soak    a cluster under churn for SOAKTIME; samples and plots in soak/

GO       ?= go
FUZZTIME ?= 6s
SOAKTIME ?= 1h
ROUNDS   ?= 200
KILLS    ?= 100

# The analysers, at versions that are known to work with the toolchain of go.mod.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.1.4

# The tests of launchers and engines, which start the command on several hosts.
ENGINES = TestMpiexec|TestMpiexecGPUs|TestSlurm|TestKubernetes

# The tests of whole hosts, which build the command that they run: once is enough.
HOSTS = '^(TestCluster|TestLiars|TestChaos|TestCoordinatorKilled|$(ENGINES))$$'

.PHONY: all test test-engines check lint manifests race nocgo v3 cross fuzz chaos kills generate setup dist soak

all:
	CGO_ENABLED=0 $(GO) build -o gpurun ./cmd/gpurun

test: setup lint manifests cross nocgo v3 fuzz race

check:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) test ./...

test-engines: setup
	GPURUN_REQUIRE=netns,tun,opencl,mpiexec,openmpi,slurm $(GO) test -race -count=1 -timeout 10m -run '^($(ENGINES))$$' . ./internal/lab

setup:
	@.ci/setup

lint:
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	cd kernels/cpu/_asm && $(GO) vet ./...
	cd deploy/kubernetes/_test && $(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	@.ci/vulnerabilities $(GO) run $(GOVULNCHECK) ./...

# What Kubernetes itself says of deploy/kubernetes: a module of its own, since it takes much of
# the API server.
manifests:
	cd deploy/kubernetes/_test && $(GO) test -count=1 ./...

# Everything with the race detector, and leak checks in the tests themselves.
race:
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 30m ./...

# What users build.
nocgo:
	CGO_ENABLED=0 $(GO) test -count=1 -timeout 30m -skip $(HOSTS) ./...

# GOAMD64=v3 lets the compiler fuse x*y+z, which must not change a bit.
v3:
	GOAMD64=v3 $(GO) test -count=1 -timeout 30m -skip $(HOSTS) ./kernels/... ./tiler/... ./device/... .

cross:
	for target in linux/amd64 linux/arm64 darwin/arm64 windows/amd64; do \
		GOOS=$${target%/*} GOARCH=$${target#*/} CGO_ENABLED=0 $(GO) vet ./... && \
		GOOS=$${target%/*} GOARCH=$${target#*/} CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/gpurun || exit 1; \
	done

fuzz:
	@.ci/fuzz $(FUZZTIME)

# A seed that is printed plays its round again: go test . -run '^TestChaos' -v -chaos.seed SEED
chaos:
	GPURUN_REQUIRE=netns,tun,clock $(GO) test -count=1 -v -timeout 24h -run '^TestChaos$$' . -chaos.rounds $(ROUNDS)

kills:
	GPURUN_REQUIRE=netns,tun $(GO) test -count=1 -v -timeout 24h -run '^TestCoordinatorKilled$$' . -kills $(KILLS)

generate:
	$(GO) generate ./...

dist:
	rm -rf release
	$(GO) run ./internal/release $(if $(VERSION),-version $(VERSION)) -o release

soak:
	$(GO) run ./bench/soak -for $(SOAKTIME) -o soak
