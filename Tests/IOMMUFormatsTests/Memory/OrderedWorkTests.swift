import Glibc
import IOMMUFormats
import Synchronization
import Testing

@Suite struct OrderedWorkTests {
  private struct Refusal: Error, Equatable {}

  @Test(arguments: [1, 2, 3, 16])
  func `results come in the order of pieces, however long each takes`(threadCount: Int) {
    var taken: [Int] = []
    inOrder(threadCount: threadCount, 0..<200) { piece in
      // Every seventh takes longer than all others that are on their way.
      if piece % 7 == 0 { usleep(500) }
      return 3 * piece
    } take: {
      taken.append($0)
    }
    #expect(taken == (0..<200).map { 3 * $0 })
  }

  @Test func `no pieces are no work`() {
    inOrder(threadCount: 4, [Int]()) {
      $0
    } take: { _ in
      Issue.record("nothing is taken")
    }
  }

  @Test(arguments: [1, 2, 5])
  func `no more pieces are on their way than four for each thread`(threadCount: Int) {
    var handedOut = 0
    var taken = 0
    let pieces = sequence(state: 0) { number -> Int? in
      guard number < 500 else { return nil }
      number += 1
      handedOut = number
      return number
    }
    inOrder(threadCount: threadCount, pieces, work: { $0 }) { _ in
      #expect(handedOut - taken <= 4 * threadCount)
      taken += 1
    }
    #expect(taken == 500)
  }

  @Test(arguments: [1, 2, 4])
  func `what the taker throws ends the work, and every thread`(threadCount: Int) {
    final class Counts: Sendable {
      let begun = Atomic(0)
      let ended = Atomic(0)
    }
    let counts = Counts()
    #expect(throws: Refusal()) {
      try inOrder(threadCount: threadCount, 0..<100_000) { piece in
        counts.begun.add(1, ordering: .relaxed)
        usleep(10)
        counts.ended.add(1, ordering: .relaxed)
        return piece
      } take: { piece in
        if piece == 20 { throw Refusal() }
      }
    }
    let begun = counts.begun.load(ordering: .relaxed)
    #expect(begun >= 21 && begun <= 21 + 4 * threadCount)
    #expect(counts.ended.load(ordering: .relaxed) == begun)
  }

  @Test func `one thread is the calling one`() {
    let caller = pthread_self()
    inOrder(threadCount: 1, 0..<10) { _ in
      pthread_self()
    } take: {
      #expect($0 == caller)
    }
  }

  @Test(arguments: [1, 2, 16])
  func `what was made alongside is there in the end`(threadCount: Int) {
    // Nobody but one thread at a time may have it.
    final class Made { var number = 0 }
    let (made, result) = alongside(threadCount: threadCount) {
      let made = Made()
      usleep(500)
      made.number = 7
      return made
    } _: {
      11
    }
    #expect(made.number == 7 && result == 11)
  }

  @Test func `what cannot be made is none`() {
    let (made, result) = alongside(threadCount: 2) {
      Int?.none
    } _: {
      11
    }
    #expect(made == nil && result == 11)
  }

  @Test func `other work has a thread of its own, where there is a processor for it`() {
    let caller = pthread_self()
    #expect(
      alongside(threadCount: 1) {
        pthread_self()
      } _: {
        pthread_self()
      } == (caller, caller))
    let (other, own) = alongside(threadCount: 2) {
      pthread_self()
    } _: {
      pthread_self()
    }
    #expect(other != caller && own == caller)
  }

  @Test(arguments: [1, 2])
  func `what is thrown waits for other work that was begun`(threadCount: Int) {
    final class Counts: Sendable {
      let begun = Atomic(0)
      let ended = Atomic(0)
    }
    let counts = Counts()
    #expect(throws: Refusal()) {
      _ = try alongside(threadCount: threadCount) {
        counts.begun.add(1, ordering: .relaxed)
        usleep(500)
        counts.ended.add(1, ordering: .relaxed)
      } _: { () throws(Refusal) in
        throw Refusal()
      }
    }
    let begun = counts.begun.load(ordering: .relaxed)
    #expect(begun == threadCount - 1)
    #expect(counts.ended.load(ordering: .relaxed) == begun)
  }

  @Test func `there is a processor to run on`() {
    #expect(1...16 ~= usableProcessorCount)
  }
}
