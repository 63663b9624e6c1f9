import IOMMUFormats

extension SMMUv3.EventRecord: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "event": "what happened", "SSV": "the transaction had a substream",
      "SubstreamID": "the address space within the stream, with SSV",
      "StreamID": "who sent the transaction", "STAG": "by which software resumes it, with Stall",
      "Stall": "the transaction waits for software", "PnU": "privileged",
      "InD": "an instruction fetch", "RnW": "a read", "NSIPA": "IPA is a non-secure address",
      "S2": "the second stage stopped it",
      "CLASS": "0 a context descriptor's fetch, 1 a table entry's, 2 the input address",
      "TTRnW": "the access to a table was a read",
      "InputAddress": "the address as the device sent it",
      "IPA": "what the first stage made of it, of a fault in the second",
      "FetchAddr": "where an entry could not be read",
    ]
  }
}
