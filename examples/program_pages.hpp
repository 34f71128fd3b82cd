#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "program_version.hpp"

// --version, and a man page and completion in bash, made of the options that CLI11 knows of a program.

namespace intact_examples {

namespace detail {

/// The options and arguments that --help shows.
inline std::vector<const CLI::Option*> shown_options(const CLI::App& app) {
  return app.get_options([](const CLI::Option* option) { return !option->get_group().empty(); });
}

inline std::vector<const CLI::App*> commands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

inline bool takes_value(const CLI::Option& option) {
  return option.get_items_expected_max() != 0;
}

/// "--weights" and "-o", all names of an option.
inline std::vector<std::string> names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_lnames()) {
    names.push_back("--" + name);
  }
  for (const std::string& name : option.get_snames()) {
    names.push_back("-" + name);
  }
  return names;
}

inline std::string upper_case(std::string text) {
  for (char& c : text) {
    c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return text;
}

/// The text in roff: without escape sequences, and no line is a request.
inline std::string roff(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c == '.' || c == '\'') && (i == 0 || text[i - 1] == '\n')) {
      out += "\\&";
    }
    out += c == '\\' ? "\\e" : c == '-' ? "\\-" : std::string(1, c);
  }
  return out;
}

/// The first sentence without its full stop, in one line.
inline std::string first_sentence(std::string text) {
  for (char& c : text) {
    c = c == '\n' ? ' ' : c;
  }
  const std::size_t end = text.find(". ");
  text.resize(end != std::string::npos ? end : text.ends_with('.') ? text.size() - 1 : text.size());
  return text;
}

/// The usage line of --help, after its label.
inline std::string usage_of(const CLI::App& app, const std::string& name) {
  const std::string usage = CLI::Formatter().make_usage(&app, name);
  const std::size_t begin = usage.find(name), end = usage.find('\n', begin);
  return usage.substr(begin, end - begin);
}

inline std::string man_options(const CLI::App& app) {
  const CLI::Formatter formatter;
  std::string page;
  for (const std::string& group : app.get_groups()) {
    std::string entries;
    for (const CLI::Option* const option : shown_options(app)) {
      if (option->get_group() == group) {
        const bool positional = option->get_positional() && !option->nonpositional();
        entries += ".TP\n\\fB" + roff(formatter.make_option_name(option, positional)) + "\\fR" +
                   roff(formatter.make_option_opts(option)) + '\n' + roff(formatter.make_option_desc(option)) + '\n';
      }
    }
    page += entries.empty() || group == "Options" ? entries : ".PP\n\\fI" + roff(group) + ":\\fR\n" + entries;
  }
  return page;
}

/// The choices of a value, which CLI::IsMember writes as "{a,b}"; none if there are others.
inline std::string choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const std::size_t begin = type.find('{'), end = type.find('}', begin);
  if (begin == std::string::npos || end == std::string::npos) {
    return "";
  }
  std::string choices = type.substr(begin + 1, end - begin - 1);
  for (char& c : choices) {
    c = c == ',' ? ' ' : c;
  }
  return choices;
}

/// A line of the completion for each option that takes a value: its choices, or else none, for which bash completes
/// names of files.
inline std::string value_cases(const CLI::App& app, const std::string& command) {
  std::string lines;
  for (const CLI::Option* const option : shown_options(app)) {
    if (option->nonpositional() && takes_value(*option)) {
      std::string patterns;
      for (const std::string& name : names_of(*option)) {
        patterns += (patterns.empty() ? "'" : " | '") + command + ' ' + name + '\'';
      }
      lines += "    " + patterns + ") words='" + choices_of(*option) + "' ;;\n";
    }
  }
  return lines;
}

/// A line of the completion for a word that begins an option.
inline std::string option_case(const CLI::App& app, const std::string& command) {
  std::string words;
  for (const CLI::Option* const option : shown_options(app)) {
    for (const std::string& name : names_of(*option)) {
      words += (words.empty() ? "" : " ") + name;
    }
  }
  return "    '" + command + " '*) if [[ $word == -* ]]; then words='" + words + "'; fi ;;\n";
}

}  // namespace detail

/// A page for man, section 1: what --help of the program and of its commands say.
inline std::string man_page(const CLI::App& app) {
  using detail::roff;
  const std::string name = app.get_name(), description = app.get_description();
  std::string page = ".TH \"" + roff(detail::upper_case(name)) + "\" 1 \"\" \"intact " + version() + "\"\n.SH NAME\n" +
                     roff(name) + " \\- " + roff(detail::first_sentence(description)) + "\n.SH SYNOPSIS\n" +
                     roff(detail::usage_of(app, name)) + "\n.SH DESCRIPTION\n" + roff(description) + "\n.SH OPTIONS\n" +
                     detail::man_options(app);
  const std::vector<const CLI::App*> commands = detail::commands(app);
  page += commands.empty() ? "" : ".SH COMMANDS\n";
  for (const CLI::App* const command : commands) {
    page += ".SS " + roff(detail::usage_of(*command, name + ' ' + command->get_name())) + '\n' +
            roff(command->get_description()) + '\n' + detail::man_options(*command);
  }
  // Paragraphs of the text after the options begin with their titles: "Examples:", "Exit code:".
  const std::string footer = app.get_footer();
  for (std::size_t begin = 0; begin < footer.size();) {
    const std::size_t end = std::min(footer.find("\n\n", begin), footer.size());
    const std::string paragraph = footer.substr(begin, end - begin);
    const std::size_t colon = paragraph.find(':');
    page += ".SH " + roff(detail::upper_case(paragraph.substr(0, colon))) + "\n.nf\n" +
            roff(paragraph.substr(std::min(colon + 2, paragraph.size()))) + "\n.fi\n";
    begin = end + 2;
  }
  return page;
}

/// A script that bash sources: options and commands, choices of values, and names of files.
inline std::string bash_completion(const CLI::App& app) {
  std::string names, values = detail::value_cases(app, ""), options;
  for (const CLI::App* const command : detail::commands(app)) {
    const std::string name = command->get_name();
    names += (names.empty() ? "" : " ") + name;
    values += detail::value_cases(*command, name);
    options += detail::option_case(*command, name);
  }
  options += detail::option_case(app, "");
  const std::string program = app.get_name();
  std::string function = '_' + program;
  for (char& c : function) {
    c = c == '-' ? '_' : c;
  }
  // Bash takes "--option=value" as three words.
  return "# bash completion of " + program + "\n" + function +
         "() {\n"
         "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command= words= i\n"
         "  if [[ $word == '=' ]]; then\n"
         "    word=\n"
         "  elif [[ $before == '=' ]]; then\n"
         "    before=${COMP_WORDS[COMP_CWORD - 2]}\n"
         "  fi\n"
         "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "    if [[ \" " +
         names +
         " \" == *\" ${COMP_WORDS[i]} \"* ]]; then\n"
         "      command=${COMP_WORDS[i]}\n"
         "      break\n"
         "    fi\n"
         "  done\n"
         "  case \"$command $before\" in\n" +
         values + options +
         "  esac\n"
         "  if [[ -z $command && -z $words && $word != -* ]]; then\n"
         "    words='" +
         names +
         "'\n"
         "  fi\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
         "}\n"
         "complete -o default -F " +
         function + ' ' + program + '\n';
}

/// Adds --version, and the options --man-page and --bash-completion, which --help does not show and which print those
/// texts.
inline void add_version_and_pages(CLI::App& app) {
  app.set_version_flag("--version", app.get_name() + ' ' + version(), "print the version and exit");
  const auto add = [&app](const char* option, std::string (*text)(const CLI::App&)) {
    app.add_flag_callback(option,
                          [&app, text] {
                            std::fputs(text(app).c_str(), stdout);
                            throw CLI::Success();
                          })
        ->group("");
  };
  add("--man-page", man_page);
  add("--bash-completion", bash_completion);
}

}  // namespace intact_examples
