#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "block.hpp"
#include "compare/peer.hpp"

// PyTorch, in a process of its own: bench/torch_block.py makes the block, runs it as often as it is asked to and tells
// how long that took. It waits for the next question while ours runs, so turns alternate as with any other library.

namespace intact_bench {
namespace {

/// A file descriptor that is closed at the end.
class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(int number) : number_(number) {}
  descriptor(descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~descriptor() {
    if (number_ >= 0) {
      close(number_);
    }
  }
  int number() const { return number_; }

 private:
  int number_ = -1;
};

/// The end to read from and the end to write to, which programs that are started do not inherit.
std::pair<descriptor, descriptor> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    throw unsupported("no pipe can be made");
  }
  return {descriptor(ends[0]), descriptor(ends[1])};
}

/// A process that is asked in lines and answers in lines. It ends when nobody can ask it any more.
class child_process {
 public:
  explicit child_process(const std::vector<std::string>& command) {
    std::signal(SIGPIPE, SIG_IGN);  // a child that has ended is noticed when its answer is missing
    auto [child_reads, we_write] = make_pipe();
    auto [we_read, child_writes] = make_pipe();
    std::vector<char*> arguments;
    for (const std::string& argument : command) {
      arguments.push_back(const_cast<char*>(argument.c_str()));
    }
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, child_reads.number(), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, child_writes.number(), STDOUT_FILENO);
    const int status = posix_spawn(&process_, arguments[0], &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (status != 0) {
      throw unsupported(command[0] + " cannot be started");
    }
    questions_ = std::move(we_write);
    answers_ = std::move(we_read);
  }
  child_process(const child_process&) = delete;
  ~child_process() {
    questions_ = descriptor();
    waitpid(process_, nullptr, 0);
  }

  void ask(const std::string& question) {
    const std::string line = question + '\n';
    if (write(questions_.number(), line.data(), line.size()) != std::ssize(line)) {
      throw unsupported("the process has ended");
    }
  }

  std::string answer() {
    std::string line;
    for (char next = 0;;) {
      if (read(answers_.number(), &next, 1) != 1) {
        throw unsupported("the process has ended");
      }
      if (next == '\n') {
        return line;
      }
      line += next;
    }
  }

 private:
  pid_t process_ = -1;
  descriptor questions_;
  descriptor answers_;
};

/// The process that runs such blocks; both recipes ask the same.
std::shared_ptr<child_process> process_for(const std::vector<std::string>& command, std::string& method) {
  struct known_process {
    std::vector<std::string> command;
    std::shared_ptr<child_process> process;
    std::string method;
  };
  static std::vector<known_process> known;
  for (const known_process& each : known) {
    if (each.command == command) {
      method = each.method;
      return each.process;
    }
  }
  if (known.size() == 2) {
    known.erase(known.begin());
  }
  const auto process = std::make_shared<child_process>(command);
  method = process->answer();
  known.push_back({command, process, method});
  return process;
}

class torch_block : public program {
 public:
  torch_block(const block_task& task, const char* kind) {
    std::vector<std::string> command = {INTACT_TORCH_PYTHON, INTACT_TORCH_SCRIPT, kind};
    const token_shape& of = task.of;
    for (const index_t number : {of.batch, of.tokens, of.width, of.heads, of.hidden(), index_t{task.threads}}) {
      command.push_back(std::to_string(number));
    }
    process_ = process_for(command, method_);
  }

  void run() override { time(1); }

  double time(std::size_t calls) override {
    process_->ask(std::to_string(calls));
    return std::strtod(process_->answer().c_str(), nullptr);
  }

  std::vector<std::int32_t> outputs() const override { return {}; }
  std::string method() const override { return method_; }

 private:
  std::string method_;
  std::shared_ptr<child_process> process_;
};

std::unique_ptr<program> make_int8(const block_task& task) {
  return std::make_unique<torch_block>(task, "int8");
}
std::unique_ptr<program> make_float(const block_task& task) {
  return std::make_unique<torch_block>(task, "float");
}

const registered_peer<block_task> int8({"PyTorch " INTACT_TORCH_VERSION " int8", make_int8, false, true});
const registered_peer<block_task> float32({"PyTorch " INTACT_TORCH_VERSION " float32", make_float, false, true});

}  // namespace
}  // namespace intact_bench
