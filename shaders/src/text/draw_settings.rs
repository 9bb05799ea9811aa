//! The settings of a draw, as a session writes them for the kernel `draw`: ten words, so that one plan serves all settings.

/// How the next token is drawn. The filters work in this order: penalties, temperature, top-k, top-p, min-p.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DrawSettings {
    /// What logits are divided by; 0 takes the likeliest token of what the penalties leave.
    pub temperature: f32,
    /// Only so many of the likeliest tokens, and their equals; 0 for all.
    pub top_k: u32,
    /// Only the likeliest tokens that together reach this probability (Holtzman et al. 2020); 1 for all.
    pub top_p: f32,
    /// Only tokens at least this times as likely as the likeliest (Nguyen et al. 2024); 0 for all.
    pub min_p: f32,
    /// Divides positive logits and multiplies negative ones of tokens that the session has (Keskar et al. 2019); 1 for none.
    pub repetition_penalty: f32,
    /// Taken off the logit of each token that the session has.
    pub presence_penalty: f32,
    /// Taken off the logit of a token for each time that the session has it.
    pub frequency_penalty: f32,
    /// Which of the possible draws.
    pub seed: u64,
}

impl DrawSettings {
    /// Words of the settings.
    pub const WORDS: usize = 10;

    /// The likeliest token, without penalties.
    pub const GREEDY: DrawSettings = DrawSettings {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        seed: 0,
    };

    /// `[1 / temperature, top_k, top_p, ln min_p, repetition, 1 / repetition, presence, frequency, seed, seed >> 32]`, floats as their
    /// bits. A temperature of 0 is 0 and turns the filters off, because the likeliest token passes all of them.
    pub fn words(&self) -> [u32; DrawSettings::WORDS] {
        let greedy = self.temperature == 0.0;
        let inverse = if greedy { 0.0 } else { (1.0 / self.temperature).min(f32::MAX) };
        let floor = if self.min_p > 0.0 && !greedy { self.min_p.ln() } else { -3e38 };
        let (top_k, top_p) = if greedy { (0, 1.0) } else { (self.top_k, self.top_p) };
        let repetition = self.repetition_penalty;
        let real = f32::to_bits;
        [
            real(inverse),
            top_k,
            real(top_p),
            real(floor),
            real(repetition),
            real(1.0 / repetition),
            real(self.presence_penalty),
            real(self.frequency_penalty),
            self.seed as u32,
            (self.seed >> 32) as u32,
        ]
    }
}
