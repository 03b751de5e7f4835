// c++ -std=c++17 consumer.cpp mine.cpp -o consumer && ./consumer < EXPORT/2026.1/OP.txt  (reads text)
#include "mine.hpp"
#include <cmath>
#include <iostream>
#include <iterator>
#include <sstream>

int main() {
    std::string line, keyword, name, word, op;
    double u = 0, factor = 0, floor = 0, largest = 0;
    bool stability = false, conforms = true;
    int cases = 0, missing = 0, judged = 0, wrong = 0;
    Array value;
    Arrays input, answers;
    while (std::getline(std::cin, line)) {
        std::istringstream words(line);
        words >> keyword >> name;
        const auto entries = [&] {
            words >> word >> word >> word;
            return Array(std::istream_iterator<double>(words), {});
        };
        if (keyword == "refpg-vectors" && words >> word >> op >> cases) missing += cases;
        if (keyword == "tolerance" && name == "float64") words >> u >> factor >> floor;
        if (keyword == "case" && words >> word >> stability) conforms = true;
        if (keyword == "dim" || keyword == "input") input[name] = entries();
        if (keyword == "answer") answers = name == "0" && !stability ? answer(op, input) : Arrays();
        if (keyword == "value") value = entries();
        if (keyword == "largest") largest = entries().at(0);
        if (keyword == "R" && !answers.empty()) {
            const Array R = entries();
            for (size_t i = 0; i < value.size(); i++) {
                const double y = std::fabs(value[i]), half_ulp = (std::nextafter(y, INFINITY) - y) / 2;
                const double tolerance = factor * u * std::max(R.at(i), floor * largest) + half_ulp;
                conforms = conforms && std::fabs(answers.at(name).at(i) - value[i]) <= tolerance;
            }
        }
        if (keyword == "end") {
            std::cout << (stability ? "NOT ASKED " : conforms ? "CONFORMS " : "WRONG ") << name << "\n";
            missing--, judged += !stability, wrong += !conforms;
        }
    }
    std::cout << judged << " judged, " << wrong << " wrong, " << missing << " missing\n";
    return missing || !judged ? 4 : wrong > 0;
}
