# swift-iommu. `make run` plays the Kdump IO Rule, `make test` runs every test.
export IOMMU_STRICT = 1

SWIFT   ?= swift
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
# What the command is called where it is installed.
PROGRAM ?= iommu
IOMMU    = .build/release/iommu
VERSION := $(shell sed -n 's/.*version: StaticString = "\(.*\)"/\1/p' Sources/IOMMUFormats/Version.swift)
SOURCES = Package.swift Sources Tests Fuzz Benchmarks/Package.swift Benchmarks/Sources \
          $(wildcard Benchmarks/*/*.swift) .ci/acpi-tables

.PHONY: run build library wheel version test test-summary bench bench-check flatness fuzz fuzz-build \
  fuzz-seeds soak lint format docs api-check abi-check abi-record install install-tool install-library \
  uninstall dist deb clean

run: build
	@$(IOMMU)

# With the Swift and C++ runtimes inside where the machine has them as archives: the tool then runs where
# there is nothing but libc. The toolchain's own linker says nothing of what Foundation calls.
build:
	@$(steady) $(SWIFT) build --configuration release --product iommu $(call static_runtime)
# The compiler orders a few instructions by where it lies in memory.
steady        := $(shell setarch -R true 2>/dev/null && echo setarch -R)
runtime        = $$($(SWIFT) -print-target-info | sed -n 's/.*"runtimeResourcePath": "\(.*\)".*/\1/p')
static_runtime = $(shell swift=$(runtime); cplusplus=$$(clang -print-file-name=libstdc++.a); \
  if [ -f "$${swift}_static/linux/libswiftCore.a" ]; then \
    echo --static-swift-stdlib --disable-local-rpath; \
    [ ! -x "$$swift/../../bin/ld.lld" ] || echo -Xswiftc -use-ld=lld; \
    if [ -f "$$cplusplus" ]; then \
      mkdir -p .build/archives && ln -sf "$$cplusplus" .build/archives/libstdc++.a; \
      echo -Xlinker -L$(CURDIR)/.build/archives -Xswiftc -Xclang-linker -Xswiftc -static-libgcc; \
    fi; \
  fi)

# libiommu for C and whoever speaks to C, in .build/library: shared, with the runtimes inside and nothing to be
# seen but what iommu.h has; and as an archive of one object, in which all else is local, so that it meets no
# other Swift. The archive wants the C++ runtime beside it.
LIBRARY = .build/library
OBJECTS = .build/release/IOMMUForC.product/Objects.LinkFileList
library:
	@[ -f "$(runtime)_static/linux/libswiftCore.a" ] \
	  || { echo "libiommu has the Swift runtime inside, and this toolchain has no archives of it"; exit 1; }
	@$(steady) $(SWIFT) build --configuration release --product IOMMUForC $(call static_runtime)
	@mkdir -p $(LIBRARY) && cp Sources/CIOMMU/include/iommu.h $(LIBRARY)
	@echo 'IOMMU_1 { global: iommu_*; local: *; };' > $(LIBRARY)/iommu.map
	@$(SWIFT)c -emit-library -static-stdlib -use-ld=lld -o $(LIBRARY)/libiommu.so.1 @$(OBJECTS) \
	  -L.build/archives -Xclang-linker -static-libgcc -Xlinker --gc-sections -Xlinker --strip-all \
	  -Xlinker -soname=libiommu.so.1 -Xlinker --version-script=$(LIBRARY)/iommu.map
	@ln -sf libiommu.so.1 $(LIBRARY)/libiommu.so
	@swift=$(runtime); bin=$$swift/../../bin; rm -f $(LIBRARY)/libiommu.a; \
	$$bin/swift-autolink-extract @$(OBJECTS) -o $(LIBRARY)/autolink \
	&& $$bin/ld.lld -r --force-group-allocation --strip-debug --gc-sections -o $(LIBRARY)/iommu.o \
	  $$(sed -n 's/.*\b\(iommu_[a-z_]*\)(.*/-u \1/p' $(LIBRARY)/iommu.h | sort -u) \
	  $$swift\_static/linux/$$(uname -m)/swiftrt.o @$(OBJECTS) -L$$swift\_static/linux --start-group \
	  $$(grep -E '^-l(swift|_|Foundation|dispatch|Blocks)' $(LIBRARY)/autolink | sort -u) \
	  -lswiftCore -ldispatch -lBlocksRuntime --end-group \
	&& objcopy --strip-unneeded --remove-section=.swift_modhash --wildcard --keep-global-symbol='iommu_*' \
	  $(LIBRARY)/iommu.o \
	&& ar rcsD $(LIBRARY)/libiommu.a $(LIBRARY)/iommu.o && rm $(LIBRARY)/iommu.o $(LIBRARY)/autolink
	@sed -e 's|@PREFIX@|$(PC_PREFIX)|' -e 's|@LIBDIR@|$(PC_LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' \
	  Sources/CIOMMU/iommu.pc.in > $(LIBRARY)/iommu.pc
PC_PREFIX = $(PREFIX)
PC_LIBDIR = $(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))

# The Python package with libiommu inside, in .build/wheel: the same library and sources give the same bytes.
wheel: library
	@python3 Python/build_wheel.py --library $(LIBRARY) --output .build/wheel

# The one place that has it is Sources/IOMMUFormats/Version.swift.
version:
	@echo $(VERSION)

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

# Ratios against plain C in one run, of all subjects or of SUBJECT: `make bench SUBJECT=Walk`, each in three
# builds that differ in where functions lie. DUMP names dumps that take part in Dumps. Times are for reading, not
# for judging a change.
bench:
	@$(SWIFT) build --package-path Benchmarks --configuration release --product goals
	@python3 Benchmarks/placements.py Benchmarks/.build/release/goals \
	  $(SUBJECT) $(if $(ROUNDS),--rounds $(ROUNDS)) $(foreach dump,$(DUMP),--dump $(dump))

# What one translation takes, counted by callgrind: fails when it has become more.
bench-check:
	@$(SWIFT) build --package-path Benchmarks --configuration release --product counts
	@python3 Benchmarks/check.py Benchmarks/.build/release/counts

# CPU time and memory of every command against what dumps claim, with the same pages stored.
flatness: build
	@python3 Benchmarks/flatness.py $(IOMMU) $(ROUNDS)

# Every fuzz target, or those of FUZZ_TARGETS, for its share of FUZZ_SECONDS: twenty minutes in all. What ends badly is kept in Fuzz/Regressions, which `make test` replays.
FUZZ_SECONDS ?= 1200
FUZZ_TARGETS ?=
# More for the fuzzer, such as -seed=1.
FUZZ_FLAGS   ?=
FUZZ_BUILD    = .build/fuzz
FUZZ_RUN      = SWIFT_BACKTRACE=enable=no ASAN_OPTIONS=quarantine_size_mb=1:detect_leaks=0:malloc_context_size=2 $(FUZZ_BUILD)/fuzz
fuzz: fuzz-build
	@targets="$(FUZZ_TARGETS)"; targets=$${targets:-$$($(FUZZ_BUILD)/fuzz)}; \
	seconds=$$(($(FUZZ_SECONDS) / $$(echo $$targets | wc -w))); failed=; \
	echo "$$seconds s for each target"; \
	printf '%-12s %12s %8s %14s\n' target executions edges 'corpus, files'; \
	for target in $$targets; do \
	  mkdir -p $(FUZZ_BUILD)/corpus/$$target Fuzz/Regressions/$$target; \
	  log=$(FUZZ_BUILD)/$$target.log; \
	  IOMMU_FUZZ_TARGET=$$target $(FUZZ_RUN) $(FUZZ_FLAGS) -max_total_time=$$((seconds > 0 ? seconds : 1)) \
	    -timeout=60 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 \
	    -artifact_prefix=Fuzz/Regressions/$$target/ $(FUZZ_BUILD)/corpus/$$target \
	    Fuzz/Seeds/$$target Fuzz/Regressions/$$target 2> $$log \
	    || { failed="$$failed $$target"; grep -E 'Fatal error|ERROR|Test unit' $$log; }; \
	  printf '%-12s %12s %8s %14s\n' $$target \
	    "$$(sed -n 's/^stat::number_of_executed_units: *//p' $$log | tail -1)" \
	    "$$(sed -n 's/.*cov: \([0-9]*\).*/\1/p' $$log | tail -1)" \
	    "$$(sed -n 's/.*corp: \([0-9]*\).*/\1/p' $$log | tail -1)"; \
	  rmdir Fuzz/Regressions/$$target 2>/dev/null || :; \
	done; \
	[ -z "$$failed" ] || { echo "failed:$$failed; the logs are in $(FUZZ_BUILD)"; exit 1; }

# The objects themselves: of an archive the linker would take only those that somebody names, and what
# is found by its conformance would be missing.
fuzz-build:
	@IOMMU_FUZZ=1 IOMMU_STRICT= $(SWIFT) build --scratch-path $(FUZZ_BUILD) \
	  --configuration release --product LibFuzzerTargets -Xswiftc -sanitize=fuzzer,address
	@$(SWIFT)c -sanitize=fuzzer,address -o $(FUZZ_BUILD)/fuzz \
	  @$(FUZZ_BUILD)/release/LibFuzzerTargets.product/Objects.LinkFileList 2> $(FUZZ_BUILD)/link.log \
	  || { cat $(FUZZ_BUILD)/link.log; exit 1; }

# What the fuzzer has found, as few inputs as reach the same edges, into Fuzz/Seeds: FUZZ_TARGETS names
# whose. Small ones only.
fuzz-seeds: fuzz-build
	@for target in $(FUZZ_TARGETS); do \
	  found=$(FUZZ_BUILD)/found/$$target; rm -rf $$found; mkdir -p $$found; \
	  IOMMU_FUZZ_TARGET=$$target $(FUZZ_RUN) -set_cover_merge=1 -use_counters=0 -max_len=1500 \
	    $$found Fuzz/Seeds/$$target $(FUZZ_BUILD)/corpus/$$target 2> $(FUZZ_BUILD)/$$target.log \
	    || exit 1; \
	  cp $$found/* Fuzz/Seeds/$$target/; \
	done

# Random machines under several threads, held against a model of what must hold, for SOAK_MINUTES;
# SOAK_THREADS and SOAK_SEED as Fuzz/Soak/main.swift has them.
soak:
	@IOMMU_FUZZ=1 $(SWIFT) build --scratch-path .build/soak --configuration release --product soak
	@SOAK_MINUTES=$${SOAK_MINUTES:-60} .build/soak/release/soak

lint:
	$(SWIFT) format lint --strict --recursive --parallel $(SOURCES)

format:
	$(SWIFT) format --in-place --recursive --parallel $(SOURCES)

# The reference of every public symbol of the libraries, for a web server: .build/docs. A warning ends it.
docs:
	@$(SWIFT) package dump-symbol-graph --minimum-access-level public > /dev/null
	@rm -rf .build/symbols && mkdir .build/symbols
	@graphs=$$($(SWIFT) build --show-bin-path)/../symbolgraph; \
	for library in $$(sed -n 's/^    \.library(name: "\([A-Za-z]*\)", targets.*/\1/p' Package.swift); do \
	  cp $$graphs/$$library.symbols.json $$graphs/$$library@*.symbols.json .build/symbols 2>/dev/null || :; \
	done
	docc convert --fallback-display-name swift-iommu --fallback-bundle-identifier swift-iommu \
	  --additional-symbol-graph-dir .build/symbols --warnings-as-errors --output-path .build/docs

# What users of the Swift libraries no longer have that they had at API_BASE, the last tag; until there is one, the
# commit before the builders of tables. Builds both without optimization: minutes. What is meant to break stands
# in docs/packaging/api-breakages.txt with its reason.
API_BASE ?= $(or $(shell git describe --tags --abbrev=0 2>/dev/null),86fa0ae765c4d5e649239cb0ed59ad7a6f8f0634)
api-check:
	@$(SWIFT) package --scratch-path .build/api diagnose-api-breaking-changes $(API_BASE) \
	  --breakage-allowlist-path docs/packaging/api-breakages.txt

# What a program that was compiled with iommu.h relies on, against what is recorded of its ABI number, and
# what libiommu exports where `make library` has built it.
abi-check:
	@python3 Tests/ABI/abi.py check $(wildcard $(LIBRARY)/libiommu.so.1 $(LIBRARY)/libiommu.a)

# Records the ABI of the header's number anew.
abi-record:
	@mkdir -p .build
	@python3 Tests/ABI/abi.py print > .build/abi.txt
	@mv .build/abi.txt Tests/ABI/iommu-$$(sed -n 's/^#define IOMMU_ABI_VERSION //p' Sources/CIOMMU/include/iommu.h).txt

# The tool, its manual pages (written by python3 from its own help) and completions: as it tells them by the
# name that it is to have. And the library.
install: install-tool install-library

SHARE       = $(DESTDIR)$(PREFIX)/share
MAN         = $(SHARE)/man/man1
NAMED       = .build/named
COMPLETIONS = bash:$(SHARE)/bash-completion/completions/$(PROGRAM) \
  zsh:$(SHARE)/zsh/site-functions/_$(PROGRAM) fish:$(SHARE)/fish/vendor_completions.d/$(PROGRAM).fish
install-tool: build
	install -D -s -m 755 $(IOMMU) $(DESTDIR)$(PREFIX)/bin/$(PROGRAM)
	@python3 docs/packaging/seal.py $(DESTDIR)$(PREFIX)/bin/$(PROGRAM)
	@rm -rf $(NAMED) && mkdir -p $(NAMED) && ln -s $(CURDIR)/$(IOMMU) $(NAMED)/$(PROGRAM)
	python3 docs/manpages.py $(NAMED)/$(PROGRAM) $(NAMED)/man
	install -d $(MAN) && install -m 644 $(NAMED)/man/*.1 $(MAN)
	@for completion in $(COMPLETIONS); do \
	  $(NAMED)/$(PROGRAM) --generate-completion-script $${completion%%:*} > $(NAMED)/completion \
	    && install -v -D -m 644 $(NAMED)/completion $${completion#*:} || exit 1; \
	done

# Where nothing is staged the loader is told, which takes root.
install-library: library
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -m 644 $(LIBRARY)/libiommu.so.1 $(LIBRARY)/libiommu.a $(DESTDIR)$(LIBDIR)
	@python3 docs/packaging/seal.py $(DESTDIR)$(LIBDIR)/libiommu.so.1
	ln -sf libiommu.so.1 $(DESTDIR)$(LIBDIR)/libiommu.so
	install -m 644 $(LIBRARY)/iommu.pc $(DESTDIR)$(LIBDIR)/pkgconfig
	install -m 644 $(LIBRARY)/iommu.h $(DESTDIR)$(PREFIX)/include
	@[ -n "$(DESTDIR)" ] || ldconfig 2>/dev/null || :

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/$(PROGRAM) $(MAN)/$(PROGRAM).1 $(MAN)/$(PROGRAM)-*.1 \
	  $(foreach completion,$(COMPLETIONS),$(lastword $(subst :, ,$(completion)))) \
	  $(addprefix $(DESTDIR)$(LIBDIR)/,libiommu.so.1 libiommu.so libiommu.a pkgconfig/iommu.pc) \
	  $(DESTDIR)$(PREFIX)/include/iommu.h

# What a release consists of, in .build/dist: the sources, all that runs on a machine of this kind, the wheel
# where one was built, and their checksums. The same commit, toolchain and directory give the same bytes.
DIST      = .build/dist
EPOCH     = $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md))
NAME      = swift-iommu-$(VERSION)
MACHINE   = $(shell uname -s | tr A-Z a-z)-$(shell uname -m)
ARCHIVE   = tar --sort=name --format=ustar --mtime=@$(EPOCH) --owner=0 --group=0 --numeric-owner \
            --mode=u+rw,go=u-w
dist:
	@[ -z "$$(git status --porcelain)" ] || { echo 'make dist: what is not committed is in no archive' >&2; exit 1; }
	@rm -rf $(DIST) && mkdir -p $(DIST)/$(NAME)-$(MACHINE)
	@$(MAKE) --silent install DESTDIR=$(CURDIR)/$(DIST)/$(NAME)-$(MACHINE) PREFIX= PC_PREFIX='$$$${pcfiledir}/../..' \
	  PC_LIBDIR='$$$${prefix}/lib' > /dev/null
	@install -m 644 LICENSE README.md CHANGELOG.md $(DIST)/$(NAME)-$(MACHINE)
	@cd $(DIST) && $(ARCHIVE) -cf - $(NAME)-$(MACHINE) | gzip -9n > $(NAME)-$(MACHINE).tar.gz
	@rm -rf $(DIST)/$(NAME)-$(MACHINE)
	@git archive --format=tar --prefix=$(NAME)/ HEAD | gzip -9n > $(DIST)/$(NAME).tar.gz
	@[ ! -e Python/build_wheel.py ] || { $(MAKE) --silent wheel && cp -p .build/wheel/*.whl $(DIST); }
	@cd $(DIST) && sha256sum *.tar.gz $$(ls *.whl 2>/dev/null) > SHA256SUMS && cat SHA256SUMS

# Debian packages of the tool, the library and what compiles with it, in .build/deb; needs dpkg-dev.
# DEBFULLNAME and DEBEMAIL are whose they are, otherwise the last commit's author.
MULTIARCH = $(shell dpkg-architecture -qDEB_HOST_MULTIARCH)
deb:
	@rm -rf .build/deb && mkdir -p .build/deb
	@$(MAKE) --silent install DESTDIR=$(CURDIR)/.build/deb/all PREFIX=/usr LIBDIR=/usr/lib/$(MULTIARCH) > /dev/null
	@VERSION=$(VERSION) SOURCE_DATE_EPOCH=$(EPOCH) docs/packaging/deb .build/deb/all .build/deb
	@rm -rf .build/deb/all

clean:
	rm -rf .build Benchmarks/.build out
