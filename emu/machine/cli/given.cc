#include "emu/machine/cli/given.h"

#include <CLI/CLI.hpp>

namespace pangea::machine {

Result<Given> collect(std::span<const OptionRow> rows, const std::vector<std::string>& arguments) {
  auto normal = normalise_arguments(rows, arguments);
  if (!normal) return normal.error();
  CLI::App app;
  app.set_help_flag();
  Given values;
  for (const OptionRow& r : rows) {
    const std::string name = r.name;
    if (r.argument)
      app.add_option_function<std::vector<std::string>>("--" + name,
                                                        [&values, name](const std::vector<std::string>& v) {
                                                          for (const std::string& guarded : v)
                                                            values[name].push_back(guarded.substr(1));
                                                        })
          ->expected(1, CLI::detail::expected_max_vector_size)
          ->allow_extra_args(false);
    else
      app.add_flag_callback("--" + name, [&values, name] { values[name] = {""}; });
  }
  std::vector<std::string> reversed(normal->rbegin(), normal->rend());
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError& e) {
    return Error{"command line", e.what(), "see -h"};
  }
  return values;
}

}  // namespace pangea::machine
