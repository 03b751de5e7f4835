// c++ -std=c++17 worker.cpp -o worker && refpg check -- ./worker [wrong]
#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

// A JSON value.  A whole number of the contract, such as an index, is a double too: all of them are below 2^53.

struct Json;
using Row = std::vector<double>;
using List = std::vector<Json>;
using Object = std::map<std::string, Json>;

struct Json {
  std::variant<std::nullptr_t, bool, double, std::string, List, Object> value;

  const Json& operator[](const std::string& name) const { return std::get<Object>(value).at(name); }
  const List& list() const { return std::get<List>(value); }
  const std::string& text() const { return std::get<std::string>(value); }
  double number() const { return std::get<double>(value); }
  bool flag() const { return std::get<bool>(value); }
  Row row() const {
    Row numbers;
    for (const Json& entry : list()) numbers.push_back(entry.number());
    return numbers;
  }
};

Json json(const Row& row) {
  List list;
  for (double number : row) list.push_back({number});
  return {list};
}

class Parser {
 public:
  explicit Parser(const std::string& text) : here(text.data()), end(here + text.size()) {}

  Json value() {
    switch (peek()) {
      case '{': return object();
      case '[': return list();
      case '"': return {string()};
      case 't': return word("true", {true});
      case 'f': return word("false", {false});
      case 'n': return word("null", {nullptr});
      default: return number();
    }
  }

 private:
  const char *here, *end;

  char peek() {
    while (here < end && std::isspace(static_cast<unsigned char>(*here))) ++here;
    if (here == end) throw std::runtime_error("the line ends too early");
    return *here;
  }
  bool next_is(char wanted) { return peek() == wanted ? (++here, true) : false; }
  void expect(char wanted) {
    if (!next_is(wanted)) throw std::runtime_error(std::string("expected ") + wanted + ", found " + *here);
  }
  Json word(const std::string& name, Json meaning) {
    for (char letter : name) expect(letter);
    return meaning;
  }
  Json number() {  // from_chars rounds correctly
    double result;
    auto [rest, error] = std::from_chars(here, end, result);
    if (error != std::errc()) throw std::runtime_error(std::string("not a number: ") + *here);
    here = rest;
    return {result};
  }
  std::string string() {  // the judge writes no escape in what this worker reads: names of ops, cases and inputs
    expect('"');
    const char* start = here;
    while (here < end && *here != '"') ++here;
    std::string result(start, here);
    expect('"');
    return result;
  }
  Json list() {
    List entries;
    expect('[');
    if (next_is(']')) return {entries};
    do entries.push_back(value());
    while (next_is(','));
    expect(']');
    return {entries};
  }
  Json object() {
    Object fields;
    expect('{');
    if (next_is('}')) return {fields};
    do {
      peek();
      std::string name = string();
      expect(':');
      fields[name] = value();
    } while (next_is(','));
    expect('}');
    return {fields};
  }
};

std::string written(const Json& json);

template <class Entries, class Write>
std::string joined(const Entries& entries, Write write) {
  std::string text;
  for (const auto& entry : entries) text += (text.empty() ? "" : ", ") + write(entry);
  return text;
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (char letter : text) {
    if (letter == '"' || letter == '\\') result += '\\';
    result += static_cast<unsigned char>(letter) < ' ' ? ' ' : letter;
  }
  return result + '"';
}

std::string written(double number) {  // to_chars writes the shortest digits that read back as the same number
  if (std::isnan(number)) return "\"NaN\"";
  if (std::isinf(number)) return number > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  char digits[32];
  return {digits, std::to_chars(digits, digits + sizeof digits, number).ptr};
}

std::string written(const Json& json) {
  if (auto list = std::get_if<List>(&json.value))
    return "[" + joined(*list, [](const Json& entry) { return written(entry); }) + "]";
  if (auto object = std::get_if<Object>(&json.value))
    return "{" + joined(*object, [](const auto& field) { return quoted(field.first) + ": " + written(field.second); }) +
           "}";
  if (auto text = std::get_if<std::string>(&json.value)) return quoted(*text);
  if (auto flag = std::get_if<bool>(&json.value)) return *flag ? "true" : "false";
  if (auto number = std::get_if<double>(&json.value)) return written(*number);
  return "null";
}

// The implementation; if `wrong`, with a known mistake in each function but one, which follows another convention.

bool wrong = false;

Json gae(const Json& in) {  // gae-no-mask-recursion
  const double gamma = in["gamma"].number(), lambda = in["gae_lambda"].number();
  const List &rewards = in["rewards"].list(), &terminated = in["terminated"].list();
  List advantages(rewards.size()), value_targets(rewards.size());
  Row later(rewards[0].list().size(), 0.0);
  for (std::size_t t = rewards.size(); t-- > 0;) {
    const Row reward = rewards[t].row(), value = in["values"].list()[t].row(), next = in["next_values"].list()[t].row();
    Row target;
    for (std::size_t e = 0; e < reward.size(); ++e) {
      const bool end = terminated[t].list()[e].flag(), cut = in["truncated"].list()[t].list()[e].flag();
      const double delta = reward[e] + gamma * (end ? 0 : next[e]) - value[e];
      later[e] = delta + gamma * lambda * ((end || cut) && !wrong ? 0 : later[e]);
      target.push_back(later[e] + value[e]);
    }
    advantages[t] = json(later);
    value_targets[t] = json(target);
  }
  return {Object{{"advantages", {advantages}}, {"value_targets", {value_targets}}}};
}

Json clipped_objective(const Json& in) {  // clip-min-before-adv
  const Row older = in["old_log_prob"].row(), newer = in["new_log_prob"].row(), advantages = in["advantages"].row();
  const double clip = in["clip"].number();
  double total = 0;
  for (std::size_t b = 0; b < advantages.size(); ++b) {
    const double ratio = std::exp(newer[b] - older[b]), clipped = std::clamp(ratio, 1 - clip, 1 + clip);
    total += wrong ? std::min(ratio, clipped) * advantages[b] : std::min(ratio * advantages[b], clipped * advantages[b]);
  }
  return {Object{{"objective", {total / advantages.size()}}}};
}

Row log_prob(Row logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (double logit : logits) total += std::exp(logit - largest);
  for (double& logit : logits) logit -= largest + std::log(total);
  return logits;
}

Json kl_categorical(const Json& in) {  // kl-reversed
  Row kl;
  for (std::size_t b = 0; b < in["old_logits"].list().size(); ++b) {
    Row p = log_prob(in["old_logits"].list()[b].row()), q = log_prob(in["new_logits"].list()[b].row());
    if (wrong) std::swap(p, q);
    kl.push_back(0);
    for (std::size_t a = 0; a < p.size(); ++a) kl.back() += std::exp(p[a]) * (p[a] - q[a]);
  }
  return {Object{{"kl", json(kl)}}};
}

Json normalize_advantages(const Json& in) {  // the convention advantage.ddof = 1
  Row advantages = in["advantages"].row();
  double mean = 0, squares = 0;
  for (double advantage : advantages) mean += advantage / advantages.size();
  for (double advantage : advantages) squares += (advantage - mean) * (advantage - mean);
  const double std = std::sqrt(squares / (advantages.size() - (wrong ? 1 : 0)));
  for (double& advantage : advantages) advantage = (advantage - mean) / std;
  return {Object{{"normalized", json(advantages)}}};
}

const std::map<std::string, std::function<Json(const Json&)>> implementation = {
    {"gae", gae},
    {"clipped_objective", clipped_objective},
    {"kl_categorical", kl_categorical},
    {"normalize_advantages", normalize_advantages},
    {"echo", [](const Json& in) { return in; }},
};

// The worker.

Json answer(const Json& request) {
  const std::string kind = request["kind"].text();
  Object reply{{"id", request["id"]}};
  if (kind == "hello") {
    List ops;
    for (const auto& [op, function] : implementation) ops.push_back({op});
    reply.merge(Object{{"kind", {kind}}, {"protocol", {1.0}}, {"name", {std::string("worker.cpp")}}, {"ops", {ops}}});
    return {reply};
  }
  try {
    reply["outputs"] = implementation.at(request["op"].text())(request["inputs"]);
    reply["kind"] = {std::string("result")};
  } catch (const std::exception& error) {
    reply["message"] = {std::string(error.what())};
    reply["kind"] = {std::string("error")};
  }
  return {reply};
}

int main(int count, char** arguments) {
  wrong = count > 1 && std::string(arguments[1]) == "wrong";
  for (std::string line; std::getline(std::cin, line);) {
    const Json request = Parser(line).value();
    if (request["kind"].text() == "bye") break;
    std::cout << written(answer(request)) << std::endl;  // flushed: the judge waits
  }
}
