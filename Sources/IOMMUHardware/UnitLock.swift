import Glibc

/// A mutex that tells a thread that it holds the lock already, instead of waiting for itself.
@safe
final class UnitLock: @unchecked Sendable {
  // Sendable, and all uses safe: the mutex is made for threads, lives where nothing moves it, and is
  // there as long as the lock is.
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>

  init() {
    unsafe mutex = .allocate(capacity: 1)
    var attributes = pthread_mutexattr_t()
    unsafe pthread_mutexattr_init(&attributes)
    unsafe pthread_mutexattr_settype(&attributes, Int32(PTHREAD_MUTEX_ERRORCHECK))
    unsafe pthread_mutex_init(mutex, &attributes)
    unsafe pthread_mutexattr_destroy(&attributes)
  }

  deinit {
    unsafe pthread_mutex_destroy(mutex)
    unsafe mutex.deallocate()
  }

  func lock() {
    let code = unsafe pthread_mutex_lock(mutex)
    // Not a precondition: those keep their sentence to themselves where the optimizer was at work, and
    // this is the one that a caller meets whose own code is right line by line.
    guard code == 0 else {
      fatalError(
        "a callback of a remapping unit calls the unit; do it after the callback returned")
    }
  }

  func unlock() { unsafe pthread_mutex_unlock(mutex) }
}
