// Three ops, to be replaced by yours; with WRONG in the environment, each makes a known mistake.
#include "mine.hpp"
#include <algorithm>
#include <cmath>
#include <cstdlib>

static Arrays gae_rollout(const Arrays& in, bool wrong) {  // wrong: gae-done-late
    const Array &rewards = in.at("rewards"), &values = in.at("values"), &dones = in.at("dones");
    const double gamma = in.at("gamma")[0], lambda = in.at("gae_lambda")[0];
    const size_t E = in.at("last_values").size(), N = rewards.size();
    Array advantages(N), targets(N);
    for (size_t i = N; i-- > 0;) {  // i + E is the next time step of the same environment
        const bool open = i + E >= N;
        const double alive = 1 - dones[wrong && !open ? i + E : i];
        const double next = open ? in.at("last_values")[i + E - N] : values[i + E];
        const double later = open ? 0 : advantages[i + E];
        advantages[i] = rewards[i] + gamma * next * alive - values[i] + gamma * lambda * alive * later;
        targets[i] = advantages[i] + values[i];
    }
    return {{"advantages", advantages}, {"value_targets", targets}};
}

static Arrays clipped_objective(const Arrays& in, bool wrong) {  // wrong: clip-min-before-adv
    const Array &old = in.at("old_log_prob"), &now = in.at("new_log_prob"), &A = in.at("advantages");
    const double clip = in.at("clip")[0];
    double sum = 0;
    for (size_t b = 0; b < A.size(); b++) {
        const double r = std::exp(now[b] - old[b]), c = std::clamp(r, 1 - clip, 1 + clip);
        sum += wrong ? std::min(r, c) * A[b] : std::min(r * A[b], c * A[b]);
    }
    return {{"objective", {sum / double(A.size())}}};
}

static Arrays kl_diagonal_gaussian(const Arrays& in, bool wrong) {  // wrong: kl-reversed
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

Arrays answer(const std::string& op, const Arrays& input) {
    const bool wrong = std::getenv("WRONG") != nullptr;
    const std::map<std::string, Arrays (*)(const Arrays&, bool)> functions = {
        {"gae_rollout", gae_rollout},
        {"clipped_objective", clipped_objective},
        {"kl_diagonal_gaussian", kl_diagonal_gaussian}};
    return functions.at(op)(input, wrong);
}
