// MPFR's numbers and its state of a thread as objects that clean up after themselves.
#pragma once

#include <mpfr.h>

#include <mutex>

#include "emu/core/unpacked.hpp"

namespace halfulp::by_mpfr {

class Float {
 public:
  explicit Float(mpfr_prec_t precision) { mpfr_init2(x_, precision); }
  ~Float() { mpfr_clear(x_); }
  Float(const Float&) = delete;
  Float& operator=(const Float&) = delete;
  Float(Float&&) = delete;
  Float& operator=(Float&&) = delete;
  mpfr_ptr get() { return x_; }
  operator mpfr_ptr() { return x_; }

 private:
  mpfr_t x_{};
};

// MPFR's exponent range and flags are those of the thread, which may belong to another user of the
// library (gmpy2): set for the length of a scope.
class Range {
 public:
  explicit Range(mpfr_exp_t reach)
      : emin_(mpfr_get_emin()), emax_(mpfr_get_emax()), flags_(mpfr_flags_save()) {
    mpfr_set_emin(-reach);
    mpfr_set_emax(reach);
  }
  ~Range() {
    mpfr_set_emin(emin_);
    mpfr_set_emax(emax_);
    mpfr_flags_restore(flags_, MPFR_FLAGS_ALL);
  }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
  Range(Range&&) = delete;
  Range& operator=(Range&&) = delete;

 private:
  mpfr_exp_t emin_, emax_;
  mpfr_flags_t flags_;
};

// MPFR keeps constants per thread: they go with the thread.
class Caches {
 public:
  Caches() = default;
  ~Caches() { mpfr_free_cache2(MPFR_FREE_LOCAL_CACHE); }
  Caches(const Caches&) = delete;
  Caches& operator=(const Caches&) = delete;
  Caches(Caches&&) = delete;
  Caches& operator=(Caches&&) = delete;
};

// What holds while a thread computes with MPFR: an exponent range of its own, constants that are
// freed with the thread, and, where MPFR is built without thread-local storage, no other thread.
class Session {
 public:
  explicit Session(mpfr_exp_t reach) : lock_(lock()), range_(reach) {
    [[maybe_unused]] static thread_local const Caches caches;
  }

 private:
  static std::unique_lock<std::mutex> lock() {
    static std::mutex one_at_a_time;
    std::unique_lock held(one_at_a_time, std::defer_lock);
    if (mpfr_buildopt_tls_p() == 0) held.lock();
    return held;
  }
  std::unique_lock<std::mutex> lock_;
  Range range_;
};

// A finite y of at most 128 bits, other than 0; sticky: it was cut off from something longer.
inline Unpacked<u128> number_of(mpfr_srcptr y, bool sticky) {
  mpz_t digits;
  mpz_init(digits);
  const long exponent = mpfr_get_z_2exp(digits, y);
  const u128 low = mpz_getlimbn(digits, 0);
  const u128 high = mpz_size(digits) > 1 ? mpz_getlimbn(digits, 1) : 0;
  mpz_clear(digits);
  return {.kind = Kind::finite,
          .negative = mpfr_signbit(y) != 0,
          .sticky = sticky,
          .exponent = static_cast<int>(exponent),
          .significand = (high << 64) | low};
}

}  // namespace halfulp::by_mpfr
