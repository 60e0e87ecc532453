"""What an edit is measured by. Pictures are float32 [h, w, 3] in 0..1; regions are bool [h, w], True on the edit."""
