import Glibc

/// A mutex that tells a thread that it holds the lock already, instead of waiting for itself.
final class UnitLock: @unchecked Sendable {
  // Sendable: the mutex is made for threads, and lives where nothing moves it.
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>

  init() {
    mutex = .allocate(capacity: 1)
    var attributes = pthread_mutexattr_t()
    pthread_mutexattr_init(&attributes)
    pthread_mutexattr_settype(&attributes, Int32(PTHREAD_MUTEX_ERRORCHECK))
    pthread_mutex_init(mutex, &attributes)
    pthread_mutexattr_destroy(&attributes)
  }

  deinit {
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
  }

  func lock() {
    let code = pthread_mutex_lock(mutex)
    precondition(
      code == 0, "a callback of a remapping unit calls the unit; do it after the callback returned")
  }

  func unlock() { pthread_mutex_unlock(mutex) }
}
