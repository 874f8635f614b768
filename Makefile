# Every target does its own set-up; `make help` lists them. Needs git, make and any Node >= 18 with npm.
SHELL := /bin/sh
.DEFAULT_GOAL := help

node_arch := $(shell uname -m | sed 's/^x86_64$$/x64/; s/^aarch64$$/arm64/')
node := node_modules/node-linux-$(node_arch)/bin/node
stamp := node_modules/.installed
run := $(node) --disable-warning=ExperimentalWarning

# Variables of the command line and the environment reach the programs below by themselves, as make has it. None is
# exported by name: programs would find it empty where it was not given.

.PHONY: help
help: ## This list
	@printf 'Usage: make TARGET [VARIABLE=value]...   (JSON=1: the last line is one JSON object)\n\n'
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)$$/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | \
	  awk -F"\t" '{ printf "  %-14s %s\n", $$1, $$2 }'

# The machine's Node only has to run npm; npm brings the Node that runs everything else.
# The stamp is a copy of the lock file: a checkout that only changes file times installs nothing.
$(stamp): package-lock.json
	@cmp -s package-lock.json $@ || sh hack/install-packages.sh
	@cp package-lock.json $@

.PHONY: setup
setup: $(stamp) ## Only bring what the other targets need (they do it themselves)

.PHONY: test
test: $(stamp) ## All tests; as root also those with real components. T='unit' or T='FILE...': only these; CI=1: as root a skip fails
	@sh hack/test.sh $(T)

.PHONY: fuzz
fuzz: $(stamp) ## Hostile bytes for whatever reads them, a random seed on. SECONDS=60 (a file); SEED=N: the one that failed
	@FUZZ_SEED=$(SEED) FUZZ_SECONDS=$(or $(SECONDS),$(if $(SEED),,60)) TIME_LIMIT_SECONDS=$$(($(or $(SECONDS),60) + 60)) \
	  $(run) hack/run-tests.ts fuzz

.PHONY: check
check: $(stamp) ## Types, formatting, lint, import directions, sizes, leftovers, unused files and dependencies
	@$(run) hack/check/main.ts

.PHONY: fix
fix: $(stamp) ## Format, apply safe lint fixes, write the README's table of settings. P='PATH...': format only there
	@$(run) hack/check/settings-table.ts
	@node_modules/.bin/biome check --write $(or $(P),.)

with_components := sh hack/with-components.sh

.PHONY: demo
demo: ## Four nodes pull one image from each other. CONTAINERD=1: real containerd on each (root); JSON=1
	@hack/components/registry.sh >&2 & registry=$$!; $(MAKE) --no-print-directory setup && { wait $$registry || :; }
	@$(if $(CONTAINERD),$(with_components) --) $(run) hack/demo/main.ts

.PHONY: e2e
e2e: $(stamp) ## The suites with real containerd and kubelet (root). CONTAINERD=1.7|2.1|2.4 (default 2.1); T='FILE...'; CI=1: a skip fails
	@CONTAINERD=$(or $(CONTAINERD),2.1) sh hack/e2e.sh $(T)

.PHONY: e2e-kubernetes
e2e-kubernetes: $(stamp) ## A real cluster of three nodes, and all that needs a real API server (root). CONTAINERD=1.7|2.1|2.4; T='FILE...'
	@CONTAINERD=$(or $(CONTAINERD),2.1) sh hack/e2e-kubernetes.sh $(T)

.PHONY: soak
soak: $(stamp) ## Pull and remove through front and agent, round after round (root): memory, files, threads. ROUNDS=50; CONTAINERD=1.7|2.1|2.4
	@$(with_components) -- $(run) hack/soak.ts

.PHONY: bench-pull
bench-pull: $(stamp) ## Shoal's pull against containerd's own (root). RIVAL=plain,tuned; CONTAINERD=1.7|2.1|2.4; RUNS=5; CASE=NAME; FILESYSTEM=ext4,tmpfs; MEMORY_MB=1024: the agent in a cgroup
	@$(with_components) $(if $(findstring tuned,$(RIVAL)),containerd-2.4 isal) -- $(run) hack/bench/pull.ts

.PHONY: bench-peer
bench-peer: $(stamp) ## Chunks from four peers to one, against bare senders and a bare receiver. MODE=plaintext|mtls (default both); RUNS=5; SIZE_MB=256. JSON lines
	@$(run) hack/bench/peer.ts

.PHONY: bench-content
bench-content: $(stamp) ## Layer blobs into containerd's content store, linked and sent (root). RUNS=3; CASE=NAME; FILESYSTEM=ext4,tmpfs
	@$(with_components) -- $(run) hack/bench/content.ts

.PHONY: bench-disk
bench-disk: $(stamp) ## Chunks of the cache written and read at several depths (root). RUNS=5; FILESYSTEM=ext4,tmpfs
	@$(run) hack/bench/disk.ts

.PHONY: bench-unpack
bench-unpack: $(stamp) ## Unpacking of local layers against gzip into tar. CASE=NAME; RUNS=3; FILESYSTEM=tmpfs|ext4
	@$(run) hack/bench/unpack.ts

.PHONY: bench-costs
bench-costs: $(stamp) ## What receiving, serving and unpacking cost the CPU, into test/sim/costs.json: by bench-peer and bench-unpack. RUNS=3
	@$(run) hack/bench/costs.ts

.PHONY: bench-swarm
bench-swarm: $(stamp) ## Nodes in network namespaces pull at once, against the bound and the simulator (root). NODES=16; LINK=100mbit; ORIGIN=200mbit; CONTAINERD=1; COLD=1: agents that never pulled
	@$(with_components) -- $(run) hack/bench/swarm.ts

.PHONY: bench-webhook
bench-webhook: $(stamp) ## Pod creations (dry run) through the webhook and past it, in pairs, on a real API server. RATE=200; SECONDS=30; REPLICAS=2
	@hack/components/all.sh etcd kubernetes >&2 || :
	@$(run) hack/bench/webhook.ts

bench-%: hack/bench/%.ts $(stamp)
	@$(run) $<

.PHONY: nri
nri: $(stamp) ## The NRI plugin, in the foreground (root). SHOAL_NRI_SOCKET=PATH; SHOAL_NRI_AGENT=PATH; SHOAL_NRI_KEY_PREFIX=PREFIX
	@nri/shoal-nri

.PHONY: nri-install
nri-install: $(stamp) ## Let containerd start the NRI plugin from its next start on (root). DIRECTORY=/opt/nri/plugins; INDEX=40
	@nri/install.sh $(or $(DIRECTORY),/opt/nri/plugins) $(or $(INDEX),40)

.PHONY: sim
sim: $(stamp) ## The swarm, simulated with the agent's own core: table and drawings. SCENARIO='NAME...'; SEEDS=10; SEED=N; NODES=N; SIZE_MB=N; FULL=1; JSON=1
	@$(run) test/sim/main.ts $(foreach option,seeds=$(SEEDS) seed=$(SEED) nodes=$(NODES) size-mb=$(SIZE_MB),\
	  $(if $(filter-out %=,$(option)),--$(option))) $(if $(SCENARIO),--scenario='$(SCENARIO)') $(if $(filter 1,$(FULL)),--full) $(if $(filter 1,$(JSON)),--json) --svg=.cache/sim

.PHONY: sim-swarm
sim-swarm: $(stamp) ## Small swarms with faults drawn from seeds, under all checkers. SEEDS=500; SEED=N: the one that failed; CALM=1: any swarm without faults, which must be quick; JSON=1
	@$(run) test/sim/sweep.ts $(if $(filter 1,$(CALM)),--calm) $(if $(SEEDS),--seeds=$(SEEDS)) $(if $(SEED),--seed=$(SEED)) $(if $(filter 1,$(JSON)),--json)

.PHONY: clean
clean: ## Remove node_modules and everything that was brought into .cache
	rm -rf node_modules .cache
