// javac Consumer.java Mine.java && java Consumer < EXPORT/2026.1/OP.txt      (reads the text form)
import java.util.*;

public class Consumer {
    static double[] numbers(String[] words, int from) {
        return Arrays.stream(words).skip(from).mapToDouble(Double::parseDouble).toArray();
    }

    public static void main(String[] arguments) {
        String op = "";
        boolean stability = false, conforms = true;
        int missing = 0, judged = 0, wrong = 0;
        double[] constants = {}, value = {}, largest = {};
        Map<String, double[]> input = new HashMap<>(), answers = null;
        for (Scanner lines = new Scanner(System.in); lines.hasNextLine();) {
            String[] words = lines.nextLine().split(" ");
            String name = words[1];
            switch (words[0]) {
                case "refpg-vectors" -> { op = words[3]; missing += Integer.parseInt(words[4]); }
                case "tolerance" -> { if (name.equals("float64")) constants = numbers(words, 2); }
                case "case" -> { stability = words[3].equals("1"); conforms = true; }
                case "dim", "input" -> input.put(name, numbers(words, 5));
                case "answer" -> answers = name.equals("0") && !stability ? Mine.answer(op, input) : null;
                case "value" -> value = numbers(words, 5);
                case "largest" -> largest = numbers(words, 5);
                case "R" -> {
                    double[] R = numbers(words, 5);
                    for (int i = 0; answers != null && i < R.length; i++) {
                        double unit = constants[0] * constants[1], least = constants[2] * largest[0];
                        double tolerance = unit * Math.max(R[i], least) + Math.ulp(value[i]) / 2;
                        conforms &= Math.abs(answers.get(name)[i] - value[i]) <= tolerance;
                    }
                }
                case "end" -> {
                    System.out.println((stability ? "NOT ASKED " : conforms ? "CONFORMS " : "WRONG ") + name);
                    missing -= 1;
                    judged += stability ? 0 : 1;
                    wrong += conforms ? 0 : 1;
                }
                default -> { }
            }
        }
        System.out.println(judged + " judged, " + wrong + " wrong, " + missing + " missing");
        System.exit(missing != 0 || judged == 0 ? 4 : Math.min(wrong, 1));
    }
}
