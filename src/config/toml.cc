/* Compiled into this file alone, without exceptions of its own, instead of the shared library: a
 * process then pays for the parser only when it parses. */
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_MAX_NESTED_VALUES 16

/* An assertion that hostile text can reach (a header such as `[=]`) must not end the process, and
 * must not be assumed to hold either, which is what toml++ makes of it under NDEBUG. */
#undef NDEBUG
#include <stdexcept>
[[noreturn]] static void refuse()
{
    throw std::logic_error("this is no valid TOML");
}
#define TOML_ASSERT(expr) ((expr) ? void() : refuse())
#include <toml++/toml.h>

#include "config/toml.h"

#include <string>

namespace
{

/* toml++ frees nested tables by recursion, and `a.a.a = 1` nests one for each dot. A key cannot
 * leave its line, so this bounds the nesting before the parser sees it. */
constexpr unsigned dots_per_line_max = 256;

bool dots_are_few(struct bytes text, uint32_t *ret_line)
{
    uint32_t line = 1;
    unsigned dots = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\n') {
            line++;
            dots = 0;
        } else if (text.p[i] == '.' && ++dots > dots_per_line_max) {
            *ret_line = line;
            return false;
        }
    }
    return true;
}

/* Paths are for messages: a name so long that nobody meant it does not make them longer. */
constexpr size_t path_max = 160;

std::string path_below(const std::string &path, const std::string &name)
{
    if (path.size() + name.size() > path_max)
        return path;
    return path.empty() ? name : path + "." + name;
}

json_t *convert(const toml::node &node, json_t *lines, const std::string &path, int depth);

bool fill_table(
    json_t *object, const toml::table &table, json_t *lines, const std::string &path, int depth)
{
    for (const auto &[key, value] : table) {
        std::string name(key.str());
        /* jansson's names end at a zero byte; a key that holds one can be no key of ours. */
        if (name.find('\0') != std::string::npos)
            name = name.substr(0, name.find('\0')) + "\\u0000";
        json_t *below = convert(value, lines, path_below(path, name), depth);
        if (json_object_set_new(object, name.c_str(), below) != 0)
            return false;
    }
    return true;
}

bool fill_list(
    json_t *list, const toml::array &array, json_t *lines, const std::string &path, int depth)
{
    size_t i = 0;
    for (const auto &value : array) {
        std::string below = path + "[" + std::to_string(i++) + "]";
        if (json_array_append_new(list, convert(value, lines, below, depth)) != 0)
            return false;
    }
    return true;
}

/* NULL: too deep, or no memory. depth: how many levels are still allowed. */
json_t *convert(const toml::node &node, json_t *lines, const std::string &path, int depth)
{
    if (depth == 0 ||
        json_object_set_new(lines, path.c_str(), json_integer(node.source().begin.line)) != 0)
        return nullptr;
    if (const auto *v = node.as_string())
        return json_stringn((*v)->c_str(), (*v)->size());
    if (const auto *v = node.as_integer())
        return json_integer(**v);
    if (const auto *v = node.as_boolean())
        return json_boolean(**v);
    if (const auto *v = node.as_floating_point()) {
        json_t *real = json_real(**v);
        return real != nullptr ? real : json_null(); /* inf and nan */
    }
    json_t *out = json_null();
    bool ok = true;
    if (const auto *v = node.as_table()) {
        out = json_object();
        ok = out != nullptr && fill_table(out, *v, lines, path, depth - 1);
    } else if (const auto *v = node.as_array()) {
        out = json_array();
        ok = out != nullptr && fill_list(out, *v, lines, path, depth - 1);
    }
    if (ok)
        return out;
    json_decref(out);
    return nullptr;
}

bool parse(json_t **ret_tree, json_t *lines, struct bytes text, uint32_t *ret_line, struct err *err)
{
    if (!dots_are_few(text, ret_line))
        return err_set(err, "more than %u dots on one line", dots_per_line_max);
    toml::parse_result result =
        toml::parse(std::string_view(reinterpret_cast<const char *>(text.p), text.n));
    if (!result) {
        const toml::parse_error &e = result.error();
        *ret_line = e.source().begin.line;
        return err_set(
            err, "%.*s", static_cast<int>(e.description().size()), e.description().data());
    }
    *ret_tree = convert(result.table(), lines, "", TOML_DEPTH_MAX);
    return *ret_tree != nullptr || err_set(err, "tables or lists are nested too deeply");
}

} // namespace

bool toml_parse(
    json_t **ret_tree, json_t **ret_lines, struct bytes text, uint32_t *ret_line, struct err *err)
{
    json_t *tree = nullptr;
    json_t *lines = json_object();
    bool ok = false;
    *ret_line = 0;
    try {
        ok = lines != nullptr && parse(&tree, lines, text, ret_line, err);
    } catch (const std::exception &e) {
        ok = err_set(err, "%s", e.what());
    } catch (...) {
        ok = err_set(err, "this cannot be parsed");
    }
    if (!ok) {
        json_decref(lines);
        return false;
    }
    *ret_tree = tree;
    *ret_lines = lines;
    return true;
}
