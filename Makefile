# swift-iommu. `make run` plays the Kdump IO Rule, `make test` runs every test.
export IOMMU_STRICT = 1

SWIFT  ?= swift
PREFIX ?= /usr/local
IOMMU   = .build/release/iommu
SOURCES = Package.swift Sources Tests Benchmarks/Package.swift Benchmarks/Sources

.PHONY: run build test bench lint format docs install clean

run: build
	@$(IOMMU)

build:
	@$(SWIFT) build --configuration release --product iommu

test:
	$(SWIFT) test

# Ratios against plain C in one run. Times are for reading, not for judging a change.
bench:
	@$(SWIFT) run --package-path Benchmarks --configuration release goals

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

install: build
	install -D -m 755 $(IOMMU) $(DESTDIR)$(PREFIX)/bin/iommu

clean:
	rm -rf .build Benchmarks/.build out
