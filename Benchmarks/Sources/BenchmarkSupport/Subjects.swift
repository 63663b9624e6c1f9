extension Subject {
  /// All subjects, in the order in which they are printed.
  ///
  /// - Parameter dumps: Paths of dumps that are read beside those that the benchmark makes.
  public static func all(dumps: [String] = []) -> [Subject] {
    [
      walk, batch, iotlb, port, growth, amdvi, tce, gart, mapping, invalidate, maps,
      .dumps(dumps), unit, crash, threads, library,
    ]
  }

  /// The subject of a name, whatever the case of its letters; `nil` when there is none.
  public static func named(_ name: String, dumps: [String] = []) -> Subject? {
    all(dumps: dumps).first { $0.name.lowercased() == name.lowercased() }
  }
}
