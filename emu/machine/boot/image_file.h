// A file that is to become guest memory: read whole, then looked at with bounds checks. Nothing in it is trusted.
#pragma once
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "emu/base/result.h"
#include "emu/base/types.h"

namespace pangea::machine {
class ImageFiles;

class ImageFile {
 public:
  /// `option`: the option that named it, for the error line ("-kernel"). Error: missing, unreadable, empty, a
  /// directory.
  static Result<ImageFile> read(const std::string& option, const std::string& path);
  /// The same through `files`, if that is not null.
  static Result<ImageFile> read(ImageFiles* files, const std::string& option, const std::string& path);
  ImageFile(std::string label, std::vector<u8> bytes) : label_(std::move(label)), bytes_(std::move(bytes)) {}

  /// "-kernel PATH"
  const std::string& label() const { return label_; }
  u64 size() const { return bytes_.size(); }
  std::span<const u8> bytes() const { return bytes_; }
  bool has(u64 offset, u64 count) const { return offset <= size() && count <= size() - offset; }
  /// Bytes [offset, offset + count); has() must be true.
  std::span<const u8> slice(u64 offset, u64 count) const {
    PANGEA_ASSERT(has(offset, count));
    return std::span(bytes_).subspan(offset, count);
  }
  /// Little-endian value or structure at `offset`; nothing when the file ends before it does.
  template <class T>
  std::optional<T> get(u64 offset) const {
    static_assert(std::is_trivially_copyable_v<T>);
    if (!has(offset, sizeof(T))) return std::nullopt;
    T v;
    std::memcpy(&v, bytes_.data() + offset, sizeof v);
    return v;
  }
  Error error(std::string why, std::string todo) const { return Error{label_, std::move(why), std::move(todo)}; }
  Error truncated() const { return error("the file is cut short", "copy it again"); }

 private:
  std::string label_;
  std::vector<u8> bytes_;
};

/// Keeps files open, so that a guest which resets itself can be loaded again where no file can be opened any more.
class ImageFiles {
 public:
  ImageFiles() = default;
  ~ImageFiles();
  ImageFiles(const ImageFiles&) = delete;
  ImageFiles& operator=(const ImageFiles&) = delete;
  /// The descriptor of `path`, opened at the first call; -1: cannot be opened (errno says why).
  int open(const std::string& path);

 private:
  std::map<std::string, int> open_;
};
}  // namespace pangea::machine
