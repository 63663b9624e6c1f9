# swift-iommu. `make run` plays the Kdump IO Rule, `make test` runs every test.
export IOMMU_STRICT = 1

SWIFT  ?= swift
PREFIX ?= /usr/local
IOMMU   = .build/release/iommu
SOURCES = Package.swift Sources Tests Benchmarks/Package.swift Benchmarks/Sources \
          $(wildcard Benchmarks/*/*.swift) Fuzz/Package.swift Fuzz/Shared Fuzz/Sources .ci/dmar-tables

.PHONY: run build test test-summary bench bench-check flatness fuzz lint format docs install clean

run: build
	@$(IOMMU)

build:
	@$(SWIFT) build --configuration release --product iommu

# Ends with the tests that failed. All that tests print, and messages of the tool are a part of it, is
# in TEST_LOG.
TEST_LOG = .build/test.log
test:
	@mkdir -p .build
	@{ $(SWIFT) test 2>&1; echo $$? > $(TEST_LOG).status; } | tee $(TEST_LOG) | awk -f Tests/report.awk
	@status=$$(cat $(TEST_LOG).status); \
	  [ $$status -eq 0 ] || { echo "the whole output is in $(TEST_LOG)"; exit $$status; }

# The end of the last run once more.
test-summary:
	@awk -v summary=1 -f Tests/report.awk $(TEST_LOG)

# Ratios against plain C in one run, of all subjects or of SUBJECT: `make bench SUBJECT=Walk`. Times are
# for reading, not for judging a change.
bench:
	@$(SWIFT) run --package-path Benchmarks --configuration release goals \
	  $(SUBJECT) $(if $(ROUNDS),--rounds $(ROUNDS))

# What one translation takes, counted by callgrind: fails when it has become more.
bench-check:
	@$(SWIFT) build --package-path Benchmarks --configuration release --product counts
	@python3 Benchmarks/check.py Benchmarks/.build/release/counts

# CPU time and memory of every command against what dumps claim, with the same pages stored.
flatness: build
	@python3 Benchmarks/flatness.py $(IOMMU) $(ROUNDS)

# Each target for FUZZ_SECONDS; what ends badly is kept in Fuzz/Regressions, which `make test` replays.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= elf kdump flattened image machine walk
FUZZ_BUILD    = .build/fuzz
fuzz:
	IOMMU_STRICT= $(SWIFT) build --package-path Fuzz --scratch-path $(FUZZ_BUILD) \
	  --configuration release --product FuzzTargets -Xswiftc -sanitize=fuzzer,address
	$(SWIFT)c -sanitize=fuzzer,address -o $(FUZZ_BUILD)/fuzz \
	  -Xlinker --whole-archive $(FUZZ_BUILD)/release/libFuzzTargets.a -Xlinker --no-whole-archive
	@for target in $(FUZZ_TARGETS); do \
	  mkdir -p $(FUZZ_BUILD)/corpus/$$target Fuzz/Regressions/$$target; \
	  echo "fuzz: $$target"; \
	  IOMMU_FUZZ_TARGET=$$target SWIFT_BACKTRACE=enable=no ASAN_OPTIONS=quarantine_size_mb=1 \
	    $(FUZZ_BUILD)/fuzz -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
	    -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 \
	    -artifact_prefix=Fuzz/Regressions/$$target/ \
	    $(FUZZ_BUILD)/corpus/$$target Fuzz/Seeds/$$target Fuzz/Regressions/$$target \
	    2> $(FUZZ_BUILD)/$$target.log || { tail -40 $(FUZZ_BUILD)/$$target.log; exit 1; }; \
	  grep -E 'cov:' $(FUZZ_BUILD)/$$target.log | tail -1; \
	  grep -E 'number_of_executed_units' $(FUZZ_BUILD)/$$target.log; \
	done

lint:
	$(SWIFT) format lint --strict --recursive --parallel $(SOURCES)

format:
	$(SWIFT) format --in-place --recursive --parallel $(SOURCES)

# The reference of every public symbol, for a web server: .build/docs.
docs:
	$(SWIFT) package dump-symbol-graph --minimum-access-level public
	docc convert --fallback-display-name swift-iommu --fallback-bundle-identifier swift-iommu \
	  --additional-symbol-graph-dir "$$($(SWIFT) build --show-bin-path)/../symbolgraph" \
	  --output-path .build/docs

# The tool, its manual pages (written by python3 from its own help) and completions.
SHARE = $(DESTDIR)$(PREFIX)/share
install: build
	install -D -m 755 $(IOMMU) $(DESTDIR)$(PREFIX)/bin/iommu
	python3 docs/manpages.py $(IOMMU) .build/man
	install -d $(SHARE)/man/man1 $(SHARE)/bash-completion/completions \
	  $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	install -m 644 .build/man/*.1 $(SHARE)/man/man1
	$(IOMMU) --generate-completion-script bash > $(SHARE)/bash-completion/completions/iommu
	$(IOMMU) --generate-completion-script zsh > $(SHARE)/zsh/site-functions/_iommu
	$(IOMMU) --generate-completion-script fish > $(SHARE)/fish/vendor_completions.d/iommu.fish

clean:
	rm -rf .build Benchmarks/.build out
