#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cases.hpp"
#include "catch.hpp"
#include "intact/io/replace_file.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/io/safetensors_write.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"

namespace intact_test::replace_file_test {
namespace {

using intact::write_text_file;
using intact::detail::replacement_file;
using intact_test::scratch_folder;

void put(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

::mode_t mode_of(const std::filesystem::path& path) {
  struct ::stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

void require_refused(const std::filesystem::path& path, const std::string& problem) {
  for (const std::string& message : {refusal<intact::file_error>([&] { write_text_file(path, "text"); }),
                                     refusal<intact::file_error>([&] { intact::write_safetensors(path, {}); })}) {
    CAPTURE(message);
    REQUIRE(message.starts_with(path.string() + ": "));
    REQUIRE(message.find(problem) != std::string::npos);
  }
}

/// Runs a function in a process of its own, which it may kill; the status that the process ends with.
int in_another_process(const std::function<void()>& body) {
  const ::pid_t process = ::fork();
  REQUIRE(process >= 0);
  if (process == 0) {
    body();
    ::_exit(0);
  }
  int status = -1;
  REQUIRE(::waitpid(process, &status, 0) == process);
  return status;
}

/// Files of a folder that look like temporary ones.
std::vector<std::filesystem::path> temporary_files(const scratch_folder& folder) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "")) {
    if (entry.path().filename().string().starts_with(".intact-")) {
      found.push_back(entry.path());
    }
  }
  return found;
}

/// A process that is killed in the middle of writing.
void write_and_be_killed(const std::filesystem::path& path) {
  const int status = in_another_process([&] {
    replacement_file replacement(path);
    replacement.write(std::string_view("half of "));
    ::raise(SIGKILL);
  });
  REQUIRE(WIFSIGNALED(status));
}

}  // namespace

TEST_CASE("write_text_file: replaces a file", "[replace_file]") {
  const scratch_folder folder;
  put(folder / "file", "former");
  write_text_file(folder / "file", "latter");
  REQUIRE(file_contents(folder / "file") == "latter");
  write_text_file(folder / "new", std::string("\0\n", 2));
  REQUIRE(file_contents(folder / "new") == std::string("\0\n", 2));
  write_text_file(folder / "empty", "");
  REQUIRE(std::filesystem::file_size(folder / "empty") == 0);
  REQUIRE(folder.files() == 3);
}

TEST_CASE("write_text_file, write_safetensors: follow symbolic links, also to a file that does not exist yet",
          "[replace_file]") {
  const scratch_folder folder;
  std::filesystem::create_directory(folder / "below");
  put(folder / "file", "former");
  std::filesystem::create_symlink("file", folder / "link");
  std::filesystem::create_symlink("../link", folder / "below/chain");
  std::filesystem::create_symlink("below/new", folder / "dangling");
  std::filesystem::create_symlink((folder / "dangling").string(), folder / "below/absolute");

  write_text_file(folder / "below/chain", "latter");
  REQUIRE(file_contents(folder / "file") == "latter");
  write_text_file(folder / "below/absolute", "created");
  REQUIRE(std::filesystem::is_regular_file(std::filesystem::symlink_status(folder / "below/new")));
  REQUIRE(file_contents(folder / "below/new") == "created");
  intact::write_safetensors(folder / "dangling", {});
  REQUIRE(intact::safetensors_file::read(folder / "below/new").names().empty());
  for (const char* const link : {"link", "below/chain", "dangling", "below/absolute"}) {
    REQUIRE(std::filesystem::is_symlink(folder / link));
  }
  REQUIRE(folder.files() == 4);
}

TEST_CASE("write_text_file: takes a name without a folder in the working folder", "[replace_file]") {
  const scratch_folder folder;
  const std::filesystem::path former = std::filesystem::current_path();
  std::filesystem::current_path(folder / "");
  write_text_file("file", "text");
  std::filesystem::create_symlink("other", "link");
  write_text_file("link", "more");
  std::filesystem::current_path(former);
  REQUIRE(file_contents(folder / "file") == "text");
  REQUIRE(file_contents(folder / "other") == "more");
}

TEST_CASE("write_text_file, write_safetensors: refuse a path where no file can be", "[replace_file]") {
  const scratch_folder folder;
  std::filesystem::create_directory(folder / "folder");
  require_refused(folder / "folder", "is a folder");
  require_refused(folder / "none/file", "a temporary file cannot be made in its folder: No such file");
  put(folder / "file", "former");
  require_refused(folder / "file/below", "the file cannot be examined: Not a directory");
  std::filesystem::create_symlink("loop", folder / "loop");
  require_refused(folder / "loop", "the file cannot be examined: Too many levels of symbolic links");
  std::filesystem::create_symlink("none/file", folder / "dangling");
  require_refused(folder / "dangling", "a temporary file cannot be made in its folder: No such file");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  REQUIRE(refusal<intact::file_error>([&] { intact::write_safetensors(folder / "pipe", {}); }) ==
          (folder / "pipe").string() + ": is not a regular file");
  REQUIRE(file_contents(folder / "file") == "former");
  REQUIRE(folder.files() == 5);
}

TEST_CASE("write_text_file: refuses a folder without the right to write", "[replace_file]") {
  const scratch_folder folder;
  std::filesystem::create_directory(folder / "folder");
  put(folder / "folder/file", "former");
  std::filesystem::permissions(folder / "folder", std::filesystem::perms(0555));
  std::filesystem::permissions(folder / "", std::filesystem::perms(0755));
  std::string message;
  const int status = in_another_process([&] {
    if (::geteuid() == 0 && ::setuid(65534) != 0) {  // the superuser may write everywhere
      ::_exit(2);
    }
    message = refusal<intact::file_error>([&] { write_text_file(folder / "folder/file", "latter"); });
    ::_exit(message.ends_with(": a temporary file cannot be made in its folder: Permission denied") ? 0 : 1);
  });
  std::filesystem::permissions(folder / "folder", std::filesystem::perms(0755));
  REQUIRE(status == 0);
  REQUIRE(file_contents(folder / "folder/file") == "former");
}

TEST_CASE("write_text_file: writes to a pipe and to a device directly", "[replace_file]") {
  const scratch_folder folder;
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  const int reader = ::open((folder / "pipe").c_str(), O_RDONLY | O_NONBLOCK);
  REQUIRE(reader >= 0);
  std::filesystem::create_symlink("pipe", folder / "link");
  write_text_file(folder / "link", "text");
  char read[8] = {};
  REQUIRE(::read(reader, read, sizeof read) == 4);
  REQUIRE(std::string_view(read) == "text");
  ::close(reader);
  REQUIRE(std::filesystem::is_fifo(folder / "pipe"));
  write_text_file("/dev/null", "text");
  REQUIRE(std::filesystem::is_character_file("/dev/null"));
  if (std::filesystem::exists("/dev/full")) {
    REQUIRE(refusal<intact::file_error>([] {
              write_text_file("/dev/full", "text");
            }).starts_with("/dev/full: writing failed: "));
  }
}

TEST_CASE("write_text_file: appends to printed text if the standard output is a file", "[replace_file]") {
  const scratch_folder folder;
  for (const std::filesystem::path& name : std::vector<std::filesystem::path>{"/dev/stdout", folder / "printed"}) {
    CAPTURE(name);
    std::fflush(stdout);
    const int status = in_another_process([&] {
      if (::dup2(::open((folder / "printed").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO) < 0) {
        ::_exit(1);
      }
      std::printf("before\n");
      write_text_file(name, "text\n");
      std::printf("after\n");
      std::fflush(stdout);
    });
    REQUIRE(status == 0);
    REQUIRE(file_contents(folder / "printed") == "before\ntext\nafter\n");
    REQUIRE(folder.files() == 1);
  }
}

TEST_CASE("write_text_file: an existing file keeps its permissions, a new one gets the usual ones", "[replace_file]") {
  const scratch_folder folder;
  const ::mode_t former = ::umask(027);
  write_text_file(folder / "new", "text");
  REQUIRE(mode_of(folder / "new") == 0640);
  for (const ::mode_t mode : {0600U, 0444U, 0755U, 0666U, 0200U}) {
    CAPTURE(mode);
    put(folder / "file", "former");
    REQUIRE(::chmod((folder / "file").c_str(), mode) == 0);
    replacement_file replacement(folder / "file");
    REQUIRE(temporary_files(folder).size() == 1);
    REQUIRE(mode_of(temporary_files(folder).front()) == 0600);  // nobody else reads it meanwhile
    replacement.write(std::string_view("latter"));
    replacement.commit();
    REQUIRE(mode_of(folder / "file") == mode);
    std::filesystem::remove(folder / "file");
  }
  ::umask(former);
}

TEST_CASE("write_text_file: gives nobody more rights to a file whose group is lost", "[replace_file]") {
  if (::geteuid() != 0) {
    intact_test::report_skipped("only the superuser can give files to groups that it is not in");
    return;
  }
  const scratch_folder folder;
  REQUIRE(::chmod((folder / "").c_str(), 0777) == 0);
  struct permissions {
    ::mode_t before, after;
  };
  for (const auto [before, after] : {permissions{0640, 0600}, {0664, 0644}, {0604, 0600}, {0660, 0600}, {0644, 0644}}) {
    CAPTURE(before);
    put(folder / "file", "former");
    REQUIRE(::chown((folder / "file").c_str(), 1234, 4321) == 0);
    REQUIRE(::chmod((folder / "file").c_str(), before) == 0);
    const int status = in_another_process([&] {
      if (::setgroups(0, nullptr) != 0 || ::setgid(1111) != 0 || ::setuid(1111) != 0) {
        ::_exit(2);
      }
      write_text_file(folder / "file", "latter");
    });
    REQUIRE(status == 0);
    REQUIRE(file_contents(folder / "file") == "latter");
    REQUIRE(mode_of(folder / "file") == after);
    std::filesystem::remove(folder / "file");
  }

  put(folder / "file", "former");  // the superuser keeps owner and group
  REQUIRE(::chown((folder / "file").c_str(), 1234, 4321) == 0);
  REQUIRE(::chmod((folder / "file").c_str(), 0640) == 0);
  write_text_file(folder / "file", "latter");
  struct ::stat status {};
  REQUIRE(::stat((folder / "file").c_str(), &status) == 0);
  REQUIRE(status.st_uid == 1234);
  REQUIRE(status.st_gid == 4321);
  REQUIRE((status.st_mode & 07777) == 0640);
}

TEST_CASE("write_text_file: keeps the existing file if its replacement cannot be written", "[replace_file]") {
  const scratch_folder folder;
  put(folder / "file", "former");
  ::rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const ::rlimit small{4096, limit.rlim_max};
  const auto former_handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const std::string message =
      refusal<intact::file_error>([&] { write_text_file(folder / "file", std::string(100'000, 'x')); });
  const int restored = ::setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, former_handler);

  REQUIRE(restored == 0);
  REQUIRE(message.starts_with((folder / "file").string() + ": writing failed: "));
  REQUIRE(file_contents(folder / "file") == "former");
  REQUIRE(folder.files() == 1);
}

TEST_CASE("replacement_file: is removed if it cannot replace the file", "[replace_file]") {
  const scratch_folder folder;
  {
    replacement_file replacement(folder / "file");
    std::filesystem::create_directory(folder / "file");
    REQUIRE(folder.files() == 2);
    REQUIRE(refusal<intact::file_error>([&] {
              replacement.commit();
            }).starts_with((folder / "file").string() + ": writing failed: "));
  }
  REQUIRE(folder.files() == 1);
}

TEST_CASE("replacement_file: removes temporary files of killed processes", "[replace_file]") {
  const scratch_folder folder;
  put(folder / "file", "former");
  for (int kills = 0; kills < 3; ++kills) {
    write_and_be_killed(folder / "file");
    REQUIRE(temporary_files(folder).size() == 1);  // each removes that of the one before
    REQUIRE(file_contents(folder / "file") == "former");
  }
  write_text_file(folder / "other", "text");
  REQUIRE(temporary_files(folder).empty());
  REQUIRE(folder.files() == 2);

  // A process with the number of one that was killed, and its name in use.
  const std::string own = ".intact-" + std::to_string(::getpid()) + "-0.tmp";
  put(folder / own, "abandoned");
  write_text_file(folder / "other", "more");
  REQUIRE(file_contents(folder / "other") == "more");
  REQUIRE(temporary_files(folder).empty());
}

TEST_CASE("write_text_file: removes temporary files of a process that was killed before it replaced the file",
          "[replace_file]") {
  // The temporary file then has the permissions of the one that it was to replace, which need not allow writing.
  const scratch_folder folder;
  std::filesystem::permissions(folder / "", std::filesystem::perms(0777));
  for (const ::mode_t mode : {0400U, 0444U, 0200U, 0600U, 0755U}) {
    CAPTURE(mode);
    const int status = in_another_process([&] {
      if (::geteuid() == 0 && ::setuid(65534) != 0) {  // the superuser may open every file
        ::_exit(2);
      }
      const std::filesystem::path left = folder / ".intact-1-0.tmp";
      put(left, "abandoned");
      const bool made = ::chmod(left.c_str(), mode) == 0;
      const int live = ::open(left.c_str(), (mode & 0400) != 0 ? O_RDONLY : O_WRONLY);
      const bool locked = ::flock(live, LOCK_EX | LOCK_NB) == 0;
      write_text_file(folder / "file", "text");
      const bool kept = std::filesystem::exists(left);  // its process lives
      ::close(live);
      write_text_file(folder / "file", "text");
      ::_exit(made && locked && kept && !std::filesystem::exists(left) ? 0 : 1);
    });
    REQUIRE(status == 0);
  }
  REQUIRE(temporary_files(folder).empty());
}

TEST_CASE("write_text_file: replaces a file that its owner may not open, and keeps its permissions", "[replace_file]") {
  const scratch_folder folder;
  put(folder / "file", "former");
  for (const ::mode_t mode : {0000U, 0100U, 0044U, 0444U}) {
    REQUIRE(::chmod((folder / "file").c_str(), mode) == 0);
    write_text_file(folder / "file", "latter");
    REQUIRE(mode_of(folder / "file") == mode);
  }
}

TEST_CASE("replacement_file: the temporary file of a running process is not removed", "[replace_file]") {
  const scratch_folder folder;
  replacement_file first(folder / "first");
  first.write(std::string_view("the "));
  const int status = in_another_process([&] {
    write_text_file(folder / "second", "text");
    write_text_file(folder / "first", "overtaken");
  });
  REQUIRE(status == 0);
  write_text_file(folder / "third", "text");  // of this process, too
  REQUIRE(temporary_files(folder).size() == 1);
  first.write(std::string_view("last"));
  first.commit();
  REQUIRE(file_contents(folder / "first") == "the last");
  REQUIRE(temporary_files(folder).empty());
}

TEST_CASE("write_text_file: keeps files whose names only resemble temporary ones", "[replace_file]") {
  const scratch_folder folder;
  const std::vector<std::string> names{".intact-1-0.tmp2", ".intact-1.tmp",     ".intact--0.tmp",
                                       ".intact-1-.tmp",   ".intact-1-0-0.tmp", ".intact-a-0.tmp",
                                       "intact-1-0.tmp",   ".intact-.tmp",      ".intact.tmp"};
  for (const std::string& name : names) {
    put(folder / name, "other");
  }
  std::filesystem::create_directory(folder / ".intact-7-0.tmp");
  put(folder / "file", "former");
  std::filesystem::create_symlink("file", folder / ".intact-8-0.tmp");
  REQUIRE(::mkfifo((folder / ".intact-9-0.tmp").c_str(), 0600) == 0);
  const std::ptrdiff_t before = folder.files();
  write_text_file(folder / "file", "latter");
  REQUIRE(folder.files() == before);
  put(folder / ".intact-1-0.tmp", "abandoned");
  write_text_file(folder / "file", "last");
  REQUIRE(folder.files() == before);
  REQUIRE_FALSE(std::filesystem::exists(folder / ".intact-1-0.tmp"));
}

TEST_CASE("replacement_file: every file is whole [many processes that write and are killed]", "[replace_file]") {
  const scratch_folder folder;
  constexpr int processes = 6, rounds = 60;
  std::vector<::pid_t> all;
  for (int p = 0; p < processes; ++p) {
    const ::pid_t process = ::fork();
    REQUIRE(process >= 0);
    if (process == 0) {
      try {
        for (int round = 0; round < rounds; ++round) {
          write_text_file(folder / "shared", std::string(20'000, static_cast<char>('a' + p)));
          write_text_file(folder / std::to_string(p), std::to_string(round));
        }
      } catch (const std::exception&) {
        ::_exit(1);
      }
      ::_exit(0);
    }
    all.push_back(process);
  }
  for (int kills = 0; kills < 20; ++kills) {
    write_and_be_killed(folder / "shared");
  }
  for (const ::pid_t process : all) {
    int status = -1;
    REQUIRE(::waitpid(process, &status, 0) == process);
    REQUIRE(status == 0);
  }
  const std::string shared = file_contents(folder / "shared");
  REQUIRE(shared.size() == 20'000);
  REQUIRE(std::count(shared.begin(), shared.end(), shared.front()) == 20'000);
  for (int p = 0; p < processes; ++p) {
    REQUIRE(file_contents(folder / std::to_string(p)) == std::to_string(rounds - 1));
  }
  write_text_file(folder / "shared", "last");
  REQUIRE(temporary_files(folder).empty());
}

}  // namespace intact_test::replace_file_test
