# swift-iommu. `make run` plays the Kdump IO Rule, `make test` runs every test.
export IOMMU_STRICT = 1

SWIFT ?= swift
PREFIX ?= /usr/local
RELEASE = .build/release/iommu

.PHONY: run test bench lint format docs install clean

lint:
	$(SWIFT) format lint --strict --recursive --parallel Package.swift Sources Tests

format:
	$(SWIFT) format --in-place --recursive --parallel Package.swift Sources Tests
