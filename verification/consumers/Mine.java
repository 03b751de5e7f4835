// Three ops, to be replaced by yours; with WRONG in the environment, each makes a known mistake.
import java.util.Map;

class Mine {
    static final boolean WRONG = System.getenv("WRONG") != null;

    static Map<String, double[]> answer(String op, Map<String, double[]> input) {
        return switch (op) {
            case "gae_rollout" -> gaeRollout(input);
            case "clipped_objective" -> clippedObjective(input);
            case "kl_diagonal_gaussian" -> klDiagonalGaussian(input);
            default -> throw new IllegalArgumentException("there is no " + op);
        };
    }

    static Map<String, double[]> gaeRollout(Map<String, double[]> in) { // wrong: gae-done-late
        double[] rewards = in.get("rewards"), values = in.get("values"), dones = in.get("dones");
        double[] last = in.get("last_values");
        double gamma = in.get("gamma")[0], lambda = in.get("gae_lambda")[0];
        int E = last.length, N = rewards.length;
        double[] advantages = new double[N], targets = new double[N];
        for (int i = N - 1; i >= 0; i--) { // i + E is the next time step of the same environment
            boolean open = i + E >= N;
            double alive = 1 - dones[WRONG && !open ? i + E : i];
            double next = open ? last[i + E - N] : values[i + E], later = open ? 0 : advantages[i + E];
            advantages[i] = rewards[i] + gamma * next * alive - values[i] + gamma * lambda * alive * later;
            targets[i] = advantages[i] + values[i];
        }
        return Map.of("advantages", advantages, "value_targets", targets);
    }

    static Map<String, double[]> clippedObjective(Map<String, double[]> in) { // wrong: clip-min-before-adv
        double[] old = in.get("old_log_prob"), now = in.get("new_log_prob"), A = in.get("advantages");
        double clip = in.get("clip")[0], sum = 0;
        for (int b = 0; b < A.length; b++) {
            double r = Math.exp(now[b] - old[b]), c = Math.min(Math.max(r, 1 - clip), 1 + clip);
            sum += WRONG ? Math.min(r, c) * A[b] : Math.min(r * A[b], c * A[b]);
        }
        return Map.of("objective", new double[] {sum / A.length});
    }

    static Map<String, double[]> klDiagonalGaussian(Map<String, double[]> in) { // wrong: kl-reversed
        String p = WRONG ? "new_" : "old_", q = WRONG ? "old_" : "new_";
        double[] m0 = in.get(p + "mean"), s0 = in.get(p + "log_std");
        double[] m1 = in.get(q + "mean"), s1 = in.get(q + "log_std");
        double[] kl = new double[(int) in.get("B")[0]];
        for (int i = 0; i < m0.length; i++) {
            double scale = Math.exp(s0[i] - s1[i]), shift = (m0[i] - m1[i]) / Math.exp(s1[i]);
            kl[i * kl.length / m0.length] += s1[i] - s0[i] + 0.5 * (scale * scale + shift * shift - 1);
        }
        return Map.of("kl", kl);
    }
}
