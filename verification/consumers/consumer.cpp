// c++ -std=c++17 consumer.cpp -o consumer && ./consumer EXPORT/2026.1 right|wrong      (reads the text form)
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

using Array = std::vector<double>;
using Arrays = std::map<std::string, Array>;

// The implementation; if `wrong`, with a known mistake in each function.

Arrays gae_rollout(const Arrays& in, bool wrong) {  // gae-done-late
    const Array &rewards = in.at("rewards"), &values = in.at("values"), &dones = in.at("dones");
    const double gamma = in.at("gamma")[0], lambda = in.at("gae_lambda")[0];
    const size_t E = in.at("last_values").size(), N = rewards.size();
    Array advantages(N), targets(N);
    for (size_t i = N; i-- > 0;) {  // from the last row up; i + E is the next time step of the same environment
        const bool open = i + E >= N;
        const double alive = 1 - dones[wrong && !open ? i + E : i];
        const double next = open ? in.at("last_values")[i + E - N] : values[i + E];
        const double later = open ? 0 : advantages[i + E];
        advantages[i] = rewards[i] + gamma * next * alive - values[i] + gamma * lambda * alive * later;
        targets[i] = advantages[i] + values[i];
    }
    return {{"advantages", advantages}, {"value_targets", targets}};
}

Arrays clipped_objective(const Arrays& in, bool wrong) {  // clip-min-before-adv
    const Array &old = in.at("old_log_prob"), &now = in.at("new_log_prob"), &A = in.at("advantages");
    const double clip = in.at("clip")[0];
    double sum = 0;
    for (size_t b = 0; b < A.size(); b++) {
        const double r = std::exp(now[b] - old[b]), c = std::clamp(r, 1 - clip, 1 + clip);
        sum += wrong ? std::min(r, c) * A[b] : std::min(r * A[b], c * A[b]);
    }
    return {{"objective", {sum / double(A.size())}}};
}

Arrays kl_diagonal_gaussian(const Arrays& in, bool wrong) {  // kl-reversed
    const std::string p = wrong ? "new_" : "old_", q = wrong ? "old_" : "new_";
    const Array &m0 = in.at(p + "mean"), &s0 = in.at(p + "log_std");
    const Array &m1 = in.at(q + "mean"), &s1 = in.at(q + "log_std");
    Array kl(size_t(in.at("B")[0]));
    for (size_t i = 0; i < m0.size(); i++) {
        const double scale = std::exp(s0[i] - s1[i]), shift = (m0[i] - m1[i]) / std::exp(s1[i]);
        kl[i * kl.size() / m0.size()] += s1[i] - s0[i] + 0.5 * (scale * scale + shift * shift - 1);
    }
    return {{"kl", kl}};
}

// The judge.

int main(int argc, char** argv) {
    const std::map<std::string, Arrays (*)(const Arrays&, bool)> implementation = {
        {"gae_rollout", gae_rollout},
        {"clipped_objective", clipped_objective},
        {"kl_diagonal_gaussian", kl_diagonal_gaussian}};
    int judged = 0, mismatches = 0;
    if (argc != 3) return 2;
    for (const auto& [op, function] : implementation) {
        std::ifstream file(std::string(argv[1]) + "/" + op + ".txt");
        if (!file) return std::cerr << "cannot read the vectors of " << op << "\n", 2;
        std::string line, word, name, kind, id;
        double factor = 0, floor = 0, u = 0;
        int stability = 0;
        std::map<std::string, Arrays> table;  // keyword → name → entries
        while (std::getline(file, line)) {
            std::istringstream words(line);
            words >> word >> name;
            if (word == "tolerance") std::istringstream(line) >> word >> factor >> floor;
            if (word == "roundoff" && name == "float64") words >> u;
            if (word == "case") id = name, table.clear(), words >> stability >> stability;
            if (word == "dim" || word == "input" || word == "value" || word == "R" || word == "largest") {
                size_t rank = 0, length = 0, size = 1;
                for (words >> kind >> rank; rank > 0; rank--) words >> length, size *= length;
                Array entries(size);
                for (double& entry : entries) words >> entry;
                if (!words) return std::cerr << id << ": cannot read " << word << " " << name << "\n", 3;
                table[word == "dim" ? "input" : word].emplace(name, entries);  // the first stays: default conventions
            }
            if (word == "end" && stability) std::cout << "NOT ASKED  " << id << "\n";
            if (word != "end" || stability) continue;
            const Arrays answers = function(table["input"], argv[2] == std::string("wrong"));
            double worst = 0;
            for (const auto& [leaf, value] : table["value"]) for (size_t i = 0; i < value.size(); i++) {
                const double R = std::max(table["R"][leaf][i], floor * table["largest"][leaf][0]);
                const double half_ulp = 0.5 * (std::nextafter(std::fabs(value[i]), INFINITY) - std::fabs(value[i]));
                const double error = std::fabs(answers.at(leaf).at(i) - value[i]) / (factor * u * R + half_ulp);
                worst = std::isnan(error) ? INFINITY : std::max(worst, error);
            }
            std::cout << (worst <= 1 ? "CONFORMS   " : "WRONG      ") << id << "  " << worst << " x tolerance\n";
            judged++, mismatches += worst > 1;
        }
    }
    std::cout << judged << " judged, " << mismatches << " wrong\n";
    return judged ? mismatches > 0 : 4;
}
