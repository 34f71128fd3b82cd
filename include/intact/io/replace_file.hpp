#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "intact/config/compiler.hpp"
#include "intact/io/safetensors_types.hpp"

// Writing files on POSIX systems: a file is replaced as a whole or not at all.

namespace intact {
inline namespace INTACT_UNIT {
namespace detail {

/// A file that is open. Closed with the object.
class open_file {
 public:
  open_file() = default;
  open_file(const std::filesystem::path& path, int flags, ::mode_t mode = 0)
      : descriptor_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {}
  explicit open_file(int descriptor) : descriptor_(descriptor) {}
  open_file(open_file&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  open_file& operator=(open_file&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~open_file() {
    if (is_open()) {
      ::close(descriptor_);
    }
  }

  bool is_open() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }

  /// The rest of these functions return whether it worked; if not, errno says why.
  bool lock(int flags) const {
    int result = 0;
    do {
      result = ::flock(descriptor_, LOCK_EX | flags);
    } while (result != 0 && errno == EINTR);
    return result == 0;
  }

  bool write(std::string_view bytes) const {
    constexpr std::size_t most_at_once = std::size_t{1} << 30;
    while (!bytes.empty()) {
      const ::ssize_t written = ::write(descriptor_, bytes.data(), std::min(bytes.size(), most_at_once));
      if (written >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(written));
      } else if (errno != EINTR) {
        return false;
      }
    }
    return true;
  }

 private:
  int descriptor_ = -1;
};

/// The name of a temporary file: ".intact-<process>-<attempt>.tmp".
inline std::string temporary_name(int attempt) {
  return ".intact-" + std::to_string(::getpid()) + "-" + std::to_string(attempt) + ".tmp";
}

inline bool is_temporary_name(std::string_view name) {
  constexpr std::string_view begin = ".intact-", end = ".tmp";
  if (name.size() < begin.size() + end.size() || !name.starts_with(begin) || !name.ends_with(end)) {
    return false;
  }
  name = name.substr(begin.size(), name.size() - begin.size() - end.size());
  const std::size_t dash = name.find('-');
  return dash != 0 && dash != std::string_view::npos && dash + 1 != name.size() && name.rfind('-') == dash &&
         name.find_first_not_of("0123456789-") == std::string_view::npos;
}

/// Removes a temporary file of this user's whose process has ended: a process holds a lock on its own as long as it
/// lives, and the lock of an abandoned one is free. With the lock in hand, the name must still be that of the file: its
/// process may have put it in its place meanwhile.
inline void remove_if_abandoned(const std::filesystem::path& path) {
  constexpr int flags = O_NOFOLLOW | O_NONBLOCK;
  open_file file(path, O_WRONLY | flags);
  if (!file.is_open() && errno == EACCES) {
    file = open_file(path, O_RDONLY | flags);  // it has the permissions of a file that nobody may write to already
  }
  struct ::stat opened {};
  struct ::stat named {};
  if (file.is_open() && file.lock(LOCK_NB) && ::fstat(file.descriptor(), &opened) == 0 &&
      ::lstat(path.c_str(), &named) == 0 && S_ISREG(opened.st_mode) && opened.st_uid == ::geteuid() &&
      opened.st_dev == named.st_dev && opened.st_ino == named.st_ino) {
    ::unlink(path.c_str());
  }
}

inline void remove_abandoned(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (is_temporary_name(entry->path().filename().native())) {
      remove_if_abandoned(entry->path());
    }
  }
}

/// A temporary file in the folder of another, whose place it takes when it is complete. A file that is never completed
/// is removed: by its process, or, if that was killed, by the next one that writes into the folder.
class replacement_file {
 public:
  explicit replacement_file(const std::filesystem::path& path) : file_(path.string()), target_(followed(path)) {
    replaces_ = ::stat(target_.c_str(), &former_) == 0;
    if (!replaces_ && errno != ENOENT) {
      fail("the file cannot be examined", errno);
    }
    if (replaces_ && !S_ISREG(former_.st_mode)) {
      throw file_error(file_, S_ISDIR(former_.st_mode) ? "is a folder" : "is not a regular file");
    }
    const std::filesystem::path parent = target_.parent_path(), folder = parent.empty() ? "." : parent;
    remove_abandoned(folder);
    create(folder);
  }

  replacement_file(const replacement_file&) = delete;
  replacement_file& operator=(const replacement_file&) = delete;

  ~replacement_file() {
    if (!temporary_.empty()) {
      ::unlink(temporary_.c_str());
    }
  }

  void write(std::string_view bytes) {
    if (!output_.write(bytes)) {
      fail("writing failed", errno);
    }
  }
  void write(std::span<const std::byte> bytes) {
    write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }

  /// Brings the bytes to the disk, then puts them in the place of the target in one step.
  void commit() {
    const ::mode_t mode = replaces_ ? take_permissions() : 0600;
    if (::fsync(output_.descriptor()) != 0 || std::rename(temporary_.c_str(), target_.c_str()) != 0) {
      fail("writing failed", errno);
    }
    temporary_.clear();
    if (unusable(mode) && ::fchmod(output_.descriptor(), mode) != 0) {
      fail("its permissions cannot be kept", errno);
    }
  }

 private:
  /// Where symbolic links lead, which need not be there yet.
  std::filesystem::path followed(std::filesystem::path path) const {
    constexpr int most_links = 40;
    std::error_code error;
    for (int links = 0; links <= most_links; ++links) {
      const std::filesystem::path next = std::filesystem::read_symlink(path, error);
      if (error) {
        return path;
      }
      path = path.parent_path() / next;
    }
    fail("the file cannot be examined", ELOOP);
  }

  /// Nobody else can read the new file until it has the permissions of the file that it replaces.
  void create(const std::filesystem::path& folder) {
    constexpr int most_attempts = 1000;
    for (int attempt = 0; temporary_.empty(); ++attempt) {
      const std::filesystem::path name = folder / temporary_name(attempt);
      output_ = open_file(name, O_WRONLY | O_CREAT | O_EXCL, replaces_ ? 0600 : 0666);
      if (!output_.is_open() && (errno != EEXIST || attempt == most_attempts)) {
        fail("a temporary file cannot be made in its folder", errno);
      }
      // Before it is locked, another process may take it for abandoned. On a file system without locks nobody does.
      struct ::stat made {};
      const bool taken = output_.is_open() && !output_.lock(LOCK_NB) && errno == EWOULDBLOCK;
      if (output_.is_open() && !taken && ::fstat(output_.descriptor(), &made) == 0 && made.st_nlink != 0) {
        temporary_ = name;
      }
    }
  }

  /// The permissions of the file that is replaced, and its owner and group where the system allows it. Under another
  /// group, members of either group get the permissions that both group and others had, so that nobody may do more than
  /// before. Returns them. A file that its owner may not open stays readable until it is in its place: the file that a
  /// killed process leaves must be opened to be removed.
  ::mode_t take_permissions() {
    const int output = output_.descriptor();
    ::mode_t mode = former_.st_mode & 0777;
    struct ::stat now {};
    const bool owned = ::fchown(output, former_.st_uid, former_.st_gid) == 0 ||
                       ::fchown(output, static_cast<::uid_t>(-1), former_.st_gid) == 0;
    if (!owned && (::fstat(output, &now) != 0 || now.st_gid != former_.st_gid)) {
      const ::mode_t both = (mode >> 3) & mode & 07;
      mode = (mode & 0700) | (both << 3) | both;
    }
    if (::fchmod(output, unusable(mode) ? mode | 0400 : mode) != 0) {
      fail("its permissions cannot be kept", errno);
    }
    return mode;
  }

  /// Whether a file of these permissions cannot be opened by its owner.
  static bool unusable(::mode_t mode) { return (mode & 0600) == 0; }

  [[noreturn]] void fail(const std::string& problem, int error) const {
    throw file_error(file_, problem + ": " + std::generic_category().message(error));
  }

  std::string file_;
  std::filesystem::path target_;
  bool replaces_ = false;
  struct ::stat former_ {};
  std::filesystem::path temporary_;
  open_file output_;
};

/// Whether a path leads to the file of the standard output. Another file in its place would take the rest of the
/// output away.
inline bool is_standard_output(const std::filesystem::path& path) {
  struct ::stat named {};
  struct ::stat output {};
  return ::stat(path.c_str(), &named) == 0 && ::fstat(STDOUT_FILENO, &output) == 0 && named.st_dev == output.st_dev &&
         named.st_ino == output.st_ino;
}

}  // namespace detail

/// Writes a text as a file, with the safety of write_safetensors. The standard output, such as /dev/stdout, gets the
/// text after all that has been printed; devices and named pipes are written to.
/// Errors:  file_error for whatever the system refuses.
inline void write_text_file(const std::filesystem::path& path, std::string_view text) {
  std::error_code ignored;
  const bool printed = detail::is_standard_output(path);
  if (printed || std::filesystem::is_other(path, ignored)) {
    std::fflush(stdout);
    const detail::open_file output =
        printed ? detail::open_file(::dup(STDOUT_FILENO)) : detail::open_file(path, O_WRONLY);
    if (!output.is_open() || !output.write(text)) {
      throw file_error(path.string(), "writing failed: " + std::generic_category().message(errno));
    }
    return;
  }
  detail::replacement_file replacement(path);
  replacement.write(text);
  replacement.commit();
}

}  // namespace INTACT_UNIT
}  // namespace intact
