// Result<T>: a value or an Error. Errors carry the one line a person reads: what, why, what to do.
#pragma once
#include <string>
#include <utility>
#include <variant>

#include "emu/base/assert.h"

namespace pangea {
/// Documented exit statuses of the `pangea` binary (README, "Exit status").
enum class ExitStatus : int { PoweredOff = 0, HostError = 2, NodeLost = 3, GuestDied = 4, SandboxViolation = 5 };

/// One failure. Printed as "pangea: what: why (do)"; `todo` may be empty.
struct Error {
  std::string what;
  std::string why;
  std::string todo;
  ExitStatus status = ExitStatus::HostError;

  std::string line() const {
    std::string s = what;
    if (!why.empty()) s += ": " + why;
    if (!todo.empty()) s += "; " + todo;
    return s;
  }
};

struct Unit {};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : v_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : v_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)
  explicit operator bool() const { return v_.index() == 0; }
  T& operator*() & {
    PANGEA_ASSERT(*this);
    return std::get<0>(v_);
  }
  const T& operator*() const& {
    PANGEA_ASSERT(*this);
    return std::get<0>(v_);
  }
  T&& operator*() && {
    PANGEA_ASSERT(*this);
    return std::get<0>(std::move(v_));
  }
  T* operator->() { return &**this; }
  const T* operator->() const { return &**this; }
  const Error& error() const {
    PANGEA_ASSERT(!*this);
    return std::get<1>(v_);
  }

 private:
  std::variant<T, Error> v_;
};

using Status = Result<Unit>;
inline Status ok() { return Unit{}; }
}  // namespace pangea
